# docker build -f docker/cpu.Dockerfile -t restore .
# docker run --rm -v "$PWD:/data" restore derain photo.jpg
FROM python:3.12-slim

# The index of CPU builds that pytorch.org names. Without it, the build of PyPI brings CUDA along.
ARG TORCH_INDEX
COPY constraints.txt /src/
RUN pip install --no-cache-dir --constraint /src/constraints.txt \
    ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY pyproject.toml README.md LICENSE /src/
COPY restore_cli /src/restore_cli
COPY weights /src/weights
COPY samples /src/samples
RUN pip install --no-cache-dir --constraint /src/constraints.txt '/src[heif,raw]'

# The folder is that of the user of `docker run --user`; only the cache is the container's.
ENV RESTORE_CACHE=/cache
RUN mkdir --mode 777 /cache
WORKDIR /data
ENTRYPOINT ["restore"]
