//! The default without a configuration file: records the interface of the default route and
//! loopback into `./var`, probes the gateway, listens on loopback. For a first look.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;

use super::Config;
use crate::error::{IoContext, IoError};
use crate::trigger::probe::ProbeConfig;

/// The folder it keeps everything in, below the working directory.
pub const FOLDER: &str = "var";
/// The file of its webhooks' token.
pub const HOOK_TOKEN: &str = "var/hook-token";

/// The embedded default for this machine.
pub fn config() -> Config {
    let var = Path::new(FOLDER);
    let mut config = Config::default();
    config.capture.interfaces = default_route()
        .into_iter()
        .chain(["lo".to_owned()])
        .collect();
    config.capture.buffer = ByteSize::mib(64);
    config.ring.path = var.join("ring");
    config.ring.size = ByteSize::mib(512);
    config.ring.memory = ByteSize::mib(128);
    config.evidence.path = var.join("incidents");
    config.evidence.quota = ByteSize::gib(2);
    config.window.before = Duration::from_mins(5);
    config.window.after = Duration::from_secs(30);
    config.web.socket = var.join("api.sock");
    config.syslog = parse("[[syslog]]\nlisten = \"udp://127.0.0.1:5514\"\n[[syslog]]\nlisten = \"tcp://127.0.0.1:5514\"\n").syslog;
    config.webhook = parse(&format!(
        "[[webhook]]\nname = \"alertmanager\"\nkind = \"alertmanager\"\ntoken_file = \"{HOOK_TOKEN}\"\n\
         [[webhook]]\nname = \"generic\"\nkind = \"generic\"\ntoken_file = \"{HOOK_TOKEN}\"\n"
    ))
    .webhook;
    if default_route().is_some() {
        config.probe = gateway_probe();
    }
    config
}

/// Makes the token of the embedded webhooks, unless it is there.
pub fn make_hook_token() -> Result<(), IoError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = Path::new(HOOK_TOKEN);
    fs::create_dir_all(FOLDER).at("create", Path::new(FOLDER))?;
    let mut options = fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        file => {
            let mut random = [0; 24];
            getrandom::fill(&mut random)
                .map_err(std::io::Error::other)
                .at("make", path)?;
            let mut file = file.at("create", path)?;
            writeln!(file, "{}", hex::encode(random)).at("write", path)
        }
    }
}

fn gateway_probe() -> Vec<ProbeConfig> {
    parse("[[probe]]\nname = \"gateway\"\ntarget = \"gateway\"\n").probe
}

/// Text of ours; a mistake in it is caught by the test below.
fn parse(text: &str) -> Config {
    toml::from_str(text).unwrap_or_default()
}

/// The interface of the default route: IPv4's, or IPv6's when there is none.
fn default_route() -> Option<String> {
    let v4 = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    default_v4(&v4).or_else(|| default_v6(&v6))
}

/// From /proc/net/route: destination and mask 0, lowest metric.
fn default_v4(table: &str) -> Option<String> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [name, "00000000", _, _, _, _, metric, "00000000", ..] = fields[..] else {
                return None;
            };
            Some((metric.parse::<u32>().ok()?, name.to_owned()))
        })
        .min()
        .map(|(_, name)| name)
}

/// From /proc/net/ipv6_route: destination ::/0 by way of something else than loopback.
fn default_v6(table: &str) -> Option<String> {
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [destination, "00", .., name] = fields[..] else {
            return None;
        };
        (destination.bytes().all(|b| b == b'0') && name != "lo").then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_text_parses() {
        let config = config();
        assert_eq!((config.syslog.len(), config.webhook.len()), (2, 2));
        assert_eq!(gateway_probe().len(), 1);
    }

    #[test]
    fn the_default_route_is_the_one_of_lowest_metric() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     wlan0\t00000000\t0102000A\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
                     eth0\t00000000\t0102000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                     eth1\t0000000A\t00000000\t0001\t0\t0\t1\t000000FF\t0\t0\t0\n";
        assert_eq!(default_v4(table).as_deref(), Some("eth0"));
        assert_eq!(default_v4(""), None);
    }
}
