//! The command line as written.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};

use crate::{
    cli::demo::DemoOptions,
    config::{Flag, Sources},
};

/// An in-memory, always-consistent read cache that speaks PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "millpond", version)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the chosen tables in memory and serve them
    Serve(ConfigArgs),
    /// Check that the primary permits what serve needs; exit 0, or 1 with what is missing and how to mend it
    Check(ConfigArgs),
    /// Start a throw-away primary with live writes and Millpond on it, and print what to try
    Demo(DemoArgs),
}

#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Where Millpond listens, or on the next free port
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6543")]
    listen: SocketAddr,
    /// Where health and metrics are served, or on the next free port
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9643")]
    admin_listen: SocketAddr,
    /// The folder of initdb and postgres; without it the newest that is found, or else one that is downloaded
    #[arg(long, value_name = "DIR")]
    postgres: Option<PathBuf>,
    /// Transactions a second of the demo's application
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
}

impl From<DemoArgs> for DemoOptions {
    fn from(args: DemoArgs) -> DemoOptions {
        let DemoArgs { listen, admin_listen, postgres, rate } = args;
        DemoOptions { listen, admin: admin_listen, bin_dir: postgres, rate }
    }
}

/// Where the configuration is, and the keys that have flags. Values are checked with the rest of the
/// configuration, so that all errors show at once.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(
    after_help = "Flags override environment variables (MILLPOND_PRIMARY_URL, MILLPOND_LISTEN, MILLPOND_TABLES, \
                        nested keys such as MILLPOND_REPLICATION__SLOT), which override the file."
)]
pub struct ConfigArgs {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "MILLPOND_CONFIG")]
    pub config: Option<PathBuf>,
    /// The database to cache, and the role to follow it with: postgres://user@host:port/database
    #[arg(long, value_name = "URL")]
    primary_url: Option<String>,
    /// Where clients connect [default: 127.0.0.1:6543]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// The tables to keep, such as 'public.*,app.users'; in place of all [[tables]] of the file
    #[arg(long, value_name = "LIST")]
    tables: Option<String>,
    /// Where health and metrics are served, or '' for nowhere [default: 127.0.0.1:9643]
    #[arg(long, value_name = "ADDR:PORT")]
    admin_listen: Option<String>,
    /// The replication slot [default: millpond]
    #[arg(long, value_name = "NAME")]
    slot: Option<String>,
    /// The publication [default: millpond]
    #[arg(long, value_name = "NAME")]
    publication: Option<String>,
    /// How clients are admitted: relay, scram or trust [default: relay]
    #[arg(long, value_name = "METHOD")]
    auth_method: Option<String>,
    /// With relay: admit clients even where the primary would admit our address without a password
    #[arg(long)]
    allow_trust: bool,
    /// Statements that write: forward or reject [default: reject]
    #[arg(long, value_name = "HOW")]
    writes: Option<String>,
    /// What is logged, such as 'info' or 'info,millpond::source=debug' [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

impl ConfigArgs {
    /// With the environment of this process.
    pub fn into_sources(self) -> Sources {
        let flags = [
            ("--primary-url", "primary.url", self.primary_url),
            ("--listen", "listen.address", self.listen),
            ("--tables", "tables", self.tables),
            ("--admin-listen", "admin.listen", self.admin_listen),
            ("--slot", "replication.slot", self.slot),
            ("--publication", "replication.publication", self.publication),
            ("--auth-method", "auth.method", self.auth_method),
            ("--allow-trust", "auth.allow_trust", self.allow_trust.then(|| "true".to_owned())),
            ("--writes", "fallthrough.writes", self.writes),
            ("--log", "log.filter", self.log),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(name, key, value)| Some(Flag { name, key, value: value? }))
            .collect();
        Sources::of_process(self.config, flags)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::{AuthMethod, Config, Forwarding};

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn each_flag_sets_its_key() {
        let arguments = "millpond serve --primary-url postgres://db/app --listen 127.0.0.1:1 --tables a,b.* \
                         --admin-listen 127.0.0.1:2 --slot s --publication p --auth-method trust --allow-trust \
                         --writes forward --log warn";
        let args = Args::try_parse_from(arguments.split_whitespace()).unwrap();
        let Command::Serve(args) = args.command else { panic!("serve was asked for") };
        let mut sources = args.into_sources();
        sources.environment.clear();
        let flags = sources.flags.len();
        let config = Config::load(&sources).unwrap();
        assert_eq!(config.primary.url, "postgres://db/app");
        assert_eq!(config.listen.address, "127.0.0.1:1".parse().unwrap());
        assert_eq!(config.tables[0].matches, ["a", "b.*"]);
        assert_eq!(config.admin.listen, Some("127.0.0.1:2".parse().unwrap()));
        assert_eq!(config.replication.slot, "s");
        assert_eq!(config.replication.publication, "p");
        assert_eq!((config.auth.method, config.auth.allow_trust), (AuthMethod::Trust, true));
        assert_eq!(config.fallthrough.writes, Forwarding::Forward);
        assert_eq!(config.log.filter, "warn");
        assert_eq!(flags, 10);
    }

    #[test]
    fn the_demo_is_as_it_is_without_flags() {
        let args = Args::try_parse_from(["millpond", "demo"]).unwrap();
        let Command::Demo(args) = args.command else { panic!("demo was asked for") };
        let (options, default) = (DemoOptions::from(args), DemoOptions::default());
        assert_eq!((options.listen, options.admin), (default.listen, default.admin));
        assert_eq!((options.bin_dir, options.rate), (default.bin_dir, default.rate));
    }

    #[test]
    fn flags_that_are_not_given_set_nothing() {
        let args = Args::try_parse_from(["millpond", "check"]).unwrap();
        let Command::Check(args) = args.command else { panic!("check was asked for") };
        assert!(args.into_sources().flags.is_empty());
    }
}
