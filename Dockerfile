# grefine-rt on the CPU: docker build -t grefine-rt . ; docs/containers.md says how it is run.
FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY runtime ./runtime
COPY export ./export
COPY engines ./engines
RUN python -m venv /opt/grefine \
    && /opt/grefine/bin/pip install --no-cache-dir --constraint constraints.txt ".[cpu]"

# The same image as above: the environment refers to its interpreter.
FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="grefine-rt" \
      org.opencontainers.image.description="Finds the broken and the missing regions of generated images and repairs only them" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --create-home grefine \
    && install --directory --owner 10001 --group 10001 /cache /work
COPY --from=build /opt/grefine /opt/grefine
ENV PATH=/opt/grefine/bin:$PATH \
    GREFINE_CACHE=/cache \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /work
VOLUME /cache
ENTRYPOINT ["grefine-rt"]
CMD ["--help"]
