# The demo of Sizewise: docker build -t sizewise . && docker run --rm -v sizewise:/data sizewise
#
# No compiler, locked packages with hashes, and a user without rights. `make docker-steps` runs the same RUN lines where
# no Docker daemon is available.
FROM python:3.11-slim

# PyTorch's CPU build comes from its own index; a mirror is given with --build-arg.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# study: the demo. server: serving with every engine, PostgreSQL, object storage, traces and Ray.
ARG LOCK=study
ENV VENV=/opt/sizewise SIZEWISE_HOME=/data PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

WORKDIR /build
COPY requirements/study.lock requirements/server.lock requirements/cpu.lock requirements/all.lock requirements/cuda.lock requirements/
RUN python3.11 -m venv "$VENV"
RUN "$VENV/bin/python" -m pip install --quiet --no-compile --only-binary :all: --require-hashes --no-deps --extra-index-url "$TORCH_INDEX" -r requirements/cpu.lock
RUN "$VENV/bin/python" -m pip install --quiet --no-compile --only-binary :all: --require-hashes --no-deps -r "requirements/$LOCK.lock"
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN "$VENV/bin/python" -m pip install --quiet --no-deps --no-build-isolation . && "$VENV/bin/python" -m pip check
# The user of the image can't write byte code later; all cores do it faster than pip.
RUN "$VENV/bin/python" -m compileall -q -j 0 "$VENV/lib" > "$VENV/compiled.log" || true
RUN mkdir -p "$SIZEWISE_HOME" && chmod 0770 "$SIZEWISE_HOME"

# Group 0 owns the folder of records, so that any user of that group may run it (as OpenShift does).
USER 10001:0
WORKDIR /data
ENV HOME=/data PATH=/opt/sizewise/bin:$PATH
VOLUME /data
ENTRYPOINT ["sizewise"]
CMD ["study"]
