# One image for every role: `docker run rushes serve`, `... api`, `... worker`, ...
# First form: built and run nowhere yet, see docs/ARCHITECTURE.md for what each role needs.
FROM python:3.12-slim

# cpu, xpu or cuda, as in the Makefile.
ARG TORCH=cpu
ARG TORCH_VERSION=2.13.0

RUN useradd --create-home --uid 1000 rushes
WORKDIR /app
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

RUN case "$TORCH" in \
      cpu) pip install "torch==$TORCH_VERSION+cpu" --extra-index-url https://download.pytorch.org/whl/cpu ;; \
      xpu) pip install "torch==$TORCH_VERSION" --index-url https://download.pytorch.org/whl/xpu ;; \
      cuda) pip install "torch==$TORCH_VERSION" ;; \
      *) echo "TORCH is cpu, xpu or cuda, not '$TORCH'" >&2; exit 2 ;; \
    esac

COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY pipeline pipeline
COPY jobs jobs
COPY api api
COPY worker worker
COPY ops ops
RUN pip install --constraint constraints.txt '.[pipeline]'

USER rushes
ENV RUSHES_HOME=/home/rushes/data
RUN mkdir /home/rushes/data
VOLUME /home/rushes/data
EXPOSE 30000
ENTRYPOINT ["rushes"]
CMD ["serve"]
