"""grefine-rt as nodes of ComfyUI: assess, plan and refine pictures. ComfyUI finds `comfy_entrypoint` here."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
