# Prometheus from Debian's own package, for debian.yml.
ARG DEBIAN=trixie
FROM debian:${DEBIAN}-slim
RUN apt-get update && apt-get install -y --no-install-recommends prometheus && rm -rf /var/lib/apt/lists/*
USER prometheus
ENTRYPOINT ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/tmp/data"]
