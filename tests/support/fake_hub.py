"""A model hub that lies in a folder, in place of huggingface_hub's client."""

import hashlib
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub

from grefine_export import hub

LARGE = 16
"""Files of this many bytes and more are "large" ones, with a SHA-256."""


class FakeHub:
    """`root/owner/name/...` are the models; `cache` has the layout of huggingface_hub's: blobs and links to them.

    offline: nothing answers. breaks: how many downloaded files until the connection breaks. lies: the listed SHA-256
    are others. fetched: names of downloaded files, in order.
    """

    def __init__(self, monkeypatch, root: Path, cache: Path):
        self.root, self.cache = root, cache
        self.offline, self.breaks, self.lies = False, None, False
        self.fetched: list[str] = []
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)
        # Bytes are a matter of `test_hub_server.py`: here a file comes whole, by `snapshot_download`.
        monkeypatch.setattr(hub, "download", lambda *_: None)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot_download)
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", self.try_to_load_from_cache)

    def _files(self, repo):
        folder = self.root / repo
        return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}

    def _snapshot(self, repo, revision):
        return self.cache / repo.replace("/", "--") / "snapshots" / (revision or "main")

    def model_info(self, repo, revision=None, files_metadata=False, timeout=None):
        if self.offline:
            raise OSError("[Errno 101]\n Network is unreachable.")
        assert files_metadata
        assert timeout > 0
        if not (self.root / repo).is_dir():
            raise ValueError("404 Client Error: Repository Not Found")
        siblings = []
        for name, path in self._files(repo).items():
            data = path.read_bytes()
            digest = "0" * 64 if self.lies else hashlib.sha256(data).hexdigest()
            lfs = SimpleNamespace(sha256=digest) if len(data) >= LARGE else None
            siblings.append(SimpleNamespace(rfilename=name, size=len(data), lfs=lfs))
        return SimpleNamespace(siblings=siblings)

    def try_to_load_from_cache(self, repo, name, revision=None):
        path = self._snapshot(repo, revision) / name
        return str(path) if path.exists() else None

    def snapshot_download(self, repo, revision=None, allow_patterns=None, local_files_only=False):
        folder = self._snapshot(repo, revision)
        if local_files_only:
            if not folder.is_dir():
                raise FileNotFoundError("no snapshot")
            return str(folder)
        for name, path in self._files(repo).items():
            if (folder / name).exists() or not any(fnmatchcase(name, one) for one in allow_patterns):
                continue
            if self.breaks is not None and len(self.fetched) >= self.breaks:
                raise ConnectionResetError("peer closed\nconnection")
            data = path.read_bytes()
            blob = folder.parent.parent / "blobs" / hashlib.sha256(data).hexdigest()
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(data)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(blob)
            self.fetched.append(name)
        return str(folder)
