# The broker as a sidecar: docs/sidecar.md. No shell, no package manager, no root.

# `make image` pins it by digest.
ARG BASE=debian:bookworm-slim
FROM ${BASE} AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv tini
WORKDIR /src

RUN python3 -m venv /opt/build && python3 -m venv /opt/namespace-broker
COPY deploy/build.lock deploy/requirements.lock deploy/
RUN /opt/build/bin/pip install --require-hashes --only-binary :all: --no-deps \
        --requirement deploy/build.lock \
 && /opt/namespace-broker/bin/pip install --require-hashes --only-binary :all: --no-deps \
        --requirement deploy/requirements.lock

COPY pyproject.toml README.md LICENSE namespace_broker.py ./
COPY broker broker
COPY systemd systemd
COPY deploy/prune.py deploy/image_root.py deploy/
# Byte code that is not checked against its source's time: a layer changes that.
RUN /opt/build/bin/python -m hatchling build --target wheel \
 && /opt/namespace-broker/bin/pip install --no-index --no-deps dist/*.whl \
 && python3 deploy/prune.py /opt/namespace-broker/lib/python3*/site-packages \
 && find /opt/namespace-broker/bin -mindepth 1 ! -name 'python*' ! -name namespace-broker -delete \
 && python3 deploy/image_root.py /root-of-image /opt/namespace-broker \
 && python3 -m compileall -q -f --invalidation-mode unchecked-hash /opt/namespace-broker/lib \
 && python3 -m compileall -q -f --invalidation-mode unchecked-hash \
        -s /root-of-image /root-of-image/usr/lib/python3*
# What the broker writes to: its runtime directory, and one for the token that its group may enter.
RUN mkdir --parents /own/namespace-broker /own/namespace-broker-token \
 && chmod 0700 /own/namespace-broker && chmod 0750 /own/namespace-broker-token

FROM scratch
ARG VERSION=0.1.0
ARG BASE=debian:bookworm-slim
LABEL org.opencontainers.image.title="namespace-broker" \
      org.opencontainers.image.description="Short-lived AWS and Namespace credentials for the containers beside it" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /root-of-image/ /
COPY --from=build --chown=65532:65532 /own/ /run/
COPY --from=build /opt/namespace-broker/ /opt/namespace-broker/
ENV PATH=/opt/namespace-broker/bin:/usr/bin \
    LANG=C.UTF-8 \
    RUNTIME_DIRECTORY=/run/namespace-broker
USER 65532:65532
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 \
    CMD ["namespace-broker", "wait", "--timeout", "0"]
# Process 1 has no default action for signals: without tini, a SIGTERM that comes before Python has a
# handler for it would be lost.
ENTRYPOINT ["tini", "--", "namespace-broker"]
CMD ["run"]
