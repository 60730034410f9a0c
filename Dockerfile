# The plugset daemon as an image: docker build -t plugset .
#
# BASE is any image with Node 20.19 or newer, npm and a shell. git, ssh, certificates and tini come from Debian, unless
# the base has them.
ARG BASE=node:20-bookworm-slim

FROM ${BASE} AS build
WORKDIR /build
COPY package.json package-lock.json ./
# Nothing in the tree needs its install script; without them no base needs a compiler.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json ./
COPY src src
RUN npm run build && chmod 755 dist/main.js && npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
  # What only compilers and debuggers read: a third of it.
  && find node_modules dist -type f \( -name '*.d.ts' -o -name '*.d.cts' -o -name '*.d.mts' -o -name '*.map' \) -delete

FROM ${BASE}
RUN for tool in git ssh tini; do command -v "$tool" >/dev/null || lacking=yes; done; \
  [ -s /etc/ssl/certs/ca-certificates.crt ] || lacking=yes; \
  [ -z "$lacking" ] || { \
    apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git openssh-client tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log; }
# By number where it counts: Kubernetes' runAsNonRoot cannot know what a name stands for.
RUN echo 'plugset:x:10001:' >>/etc/group \
  && echo 'plugset:x:10001:10001:plugset:/var/lib/plugset:/bin/sh' >>/etc/passwd \
  && mkdir -p /var/lib/plugset /var/cache/plugset \
  && chown 10001:10001 /var/lib/plugset /var/cache/plugset \
  && chmod 700 /var/lib/plugset /var/cache/plugset \
  && ln -s /opt/plugset/dist/main.js /usr/local/bin/plugset
COPY --from=build /build/node_modules /opt/plugset/node_modules
COPY --from=build /build/dist /opt/plugset/dist
COPY package.json LICENSE /opt/plugset/

# Answers the network of the container, and drains within the 10 s that `docker stop` gives by default.
ENV NODE_ENV=production \
  HOME=/var/lib/plugset \
  PLUGSET_CACHE_DIR=/var/cache/plugset \
  PLUGSET_LISTEN=0.0.0.0:9464 \
  PLUGSET_GRACE=8s
USER 10001:10001
WORKDIR /var/lib/plugset
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["node", "-e", \
  "fetch(`http://127.0.0.1:${process.env.PLUGSET_LISTEN.split(':').pop()}/livez`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# tini collects what a git that was ended leaves behind; Node as process 1 would not.
ENTRYPOINT ["tini", "--", "plugset"]
CMD ["run"]

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="plugset" \
  org.opencontainers.image.description="Keeps the set of plugins in every agent workspace at the set that was declared for it." \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}"
