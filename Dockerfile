# Millpond in a container: `docker build -t millpond .`, with BuildKit or the classic builder.

FROM rust:1.95-bookworm AS build
WORKDIR /src
# The dependencies on their own, behind an empty program: this layer is kept until Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo build --locked --profile dist --bin millpond
COPY sql sql
COPY src src
# Files keep their times in COPY: without `touch`, Cargo takes the empty program for the newer one.
RUN touch src/main.rs src/lib.rs && cargo build --locked --profile dist --bin millpond

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="Millpond" \
      org.opencontainers.image.description="An in-memory, always-consistent read cache that speaks PostgreSQL" \
      org.opencontainers.image.licenses="Apache-2.0"
# The certificates that `sslmode=verify-full` trusts.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 millpond \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin millpond
COPY LICENSE config/millpond.toml /usr/share/doc/millpond/
COPY --from=build /src/target/dist/millpond /usr/local/bin/millpond
USER 10001:10001
# A container's own addresses; what is published outside is up to `docker run -p`. As part of the
# environment they override a configuration file.
ENV MILLPOND_LISTEN=0.0.0.0:6543 \
    MILLPOND_ADMIN__LISTEN=0.0.0.0:9643
EXPOSE 6543 9643
# Alive, not ready: a long copy is no reason to be replaced. The image has no HTTP client but bash.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${MILLPOND_ADMIN__LISTEN##*:} && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["millpond"]
CMD ["serve"]
