# The worker, the bridge, and the command line beside them. See docs/operations.md.
FROM python:3.11.15-slim-bookworm AS packages

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/holdpoint/venv
COPY requirements.lock /tmp/requirements.lock
# Wheels only: a source distribution would run its own code here, and would want a compiler.
RUN /opt/holdpoint/venv/bin/pip install --require-hashes --only-binary=:all: --requirement /tmp/requirements.lock


FROM python:3.11.15-slim-bookworm

RUN groupadd --gid 10001 holdpoint \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin holdpoint
ENV PATH=/opt/holdpoint/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

WORKDIR /opt/holdpoint
COPY --from=packages /opt/holdpoint/venv venv
COPY activities activities
COPY bridge bridge
COPY incident incident
COPY integrations integrations
COPY workflows workflows
COPY *.py ./
# The file system is read-only at run time, so the byte code is made here.
RUN python -m compileall -q activities bridge incident integrations workflows *.py

USER 10001:10001

# Healthy means: Temporal saw this worker ask for work in the last two minutes. It says nothing of the vendors; that is
# 'python starter.py doctor'.
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s --retries=3 CMD ["python", "healthcheck.py"]

ENTRYPOINT ["python", "worker.py"]
