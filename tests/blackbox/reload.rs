//! SIGHUP: what is new in the configuration is taken up, what is wrong in it changes nothing, and
//! recording goes on.

use std::fs;

use rustix::process::Signal;

use crate::support::{Mirror, Process, Sender, Setup, Site, binary, signal, wait_for};

const HOOK: &str = "[[webhook]]\nname = \"late\"\nkind = \"generic\"\ntoken = \"t\"\n";

fn hooks(site: &Site) -> Result<Vec<String>, String> {
    let output = site.client(&["--json", "status"]);
    let status: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let sources = status["server"]["sources"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    Ok(sources
        .iter()
        .map(|source| source["name"].as_str().unwrap_or("").to_owned())
        .collect())
}

fn written(site: &Site) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&site.ask(&["--json", "status"])).unwrap();
    status["interfaces"][0]["written"].as_u64().unwrap()
}

#[test]
fn a_reload_takes_up_what_is_new_and_loses_no_packet() {
    let Some(mirror) = Mirror::new("reload") else {
        return;
    };
    let site = Site::new(&Setup::default());
    let mut command = mirror.monitor.command(binary());
    command.args(site.arguments(&["run"]));
    let mut process = Process::start(&mut command, &site.path("run.log"));
    wait_for("run", || hooks(&site).map(drop));
    wait_for("recording", || {
        let state = site.ask(&["--json", "status"]);
        if state.contains("\"running\"") {
            Ok(())
        } else {
            Err(state)
        }
    });
    let good = fs::read_to_string(site.config()).unwrap();

    // A mistake: the server that runs goes on.
    fs::write(site.config(), format!("{good}\n[nonsense]\n")).unwrap();
    signal(process.id(), Signal::HUP);
    wait_for("the complaint", || {
        let said = process.said();
        if said.contains("unknown field `nonsense`") {
            Ok(())
        } else {
            Err(said)
        }
    });
    assert_eq!(site.http("/api/v1/status", &[]).status, 200);

    let mut sender = Sender::new(&mirror.sender, 0, 100);
    fs::write(site.config(), format!("{good}\n{HOOK}")).unwrap();
    signal(process.id(), Signal::HUP);
    sender.send(20_000, 20_000);
    wait_for("the new hook", || match hooks(&site) {
        Ok(names) if names.iter().any(|name| name == "late") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    wait_for("all packets", || match written(&site) {
        20_000.. => Ok(()),
        n => Err(format!("{n} written")),
    });
    process.alive();
    let (status, _) = process.stop(Signal::TERM);
    assert!(status.success(), "{status}");
}
