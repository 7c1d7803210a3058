# syntax=docker/dockerfile:1
# Millpond in a container: `docker build -t millpond .`

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --bin millpond && cp target/dist/millpond /millpond

FROM debian:bookworm-slim
# The certificates that `sslmode=verify-full` trusts.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin millpond
COPY --from=build /millpond /usr/local/bin/millpond
COPY config/millpond.toml /usr/share/doc/millpond/millpond.toml
USER 10001
# A container's own addresses; what is published outside is up to `docker run -p`.
ENV MILLPOND_LISTEN=0.0.0.0:6543 \
    MILLPOND_ADMIN__LISTEN=0.0.0.0:9643
EXPOSE 6543 9643
ENTRYPOINT ["millpond"]
CMD ["serve"]
