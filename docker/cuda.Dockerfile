# docker build -f docker/cuda.Dockerfile -t restore:cuda .
# docker run --rm --gpus all -v "$PWD:/data" restore:cuda derain photo.jpg
FROM python:3.12-slim

COPY constraints.txt /src/
# The build of PyPI carries the CUDA libraries; the host needs its driver and the NVIDIA runtime.
RUN pip install --no-cache-dir --constraint /src/constraints.txt torch
COPY pyproject.toml README.md LICENSE /src/
COPY restore_cli /src/restore_cli
COPY weights /src/weights
COPY samples /src/samples
RUN pip install --no-cache-dir --constraint /src/constraints.txt '/src[generate,heif,raw]'

# The folder is that of the user of `docker run --user`; only the cache is the container's.
ENV RESTORE_CACHE=/cache
RUN mkdir --mode 777 /cache
WORKDIR /data
ENTRYPOINT ["restore"]
