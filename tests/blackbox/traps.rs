//! SNMP traps and informs of every version, sent by net-snmp's own tools.

use std::fs;

use crate::support::Space;
use crate::triggers::Running;

const TRAPS: &str = "[[trap]]\nlisten = \"udp://127.0.0.1:10162\"\ncommunity = [\"public\", \"other\"]\n\
    [[trap.user]]\nname = \"aes\"\nauth = \"sha\"\nauth_password = \"authpassword\"\npriv = \"aes\"\npriv_password = \"privpassword\"\n\
    [[trap.user]]\nname = \"des\"\nauth = \"md5\"\nauth_password = \"authpassword\"\npriv = \"des\"\npriv_password = \"privpassword\"\n\
    [[trap.user]]\nname = \"signed\"\nauth = \"sha256\"\nauth_password = \"authpassword\"\n\
    [[trap.user]]\nname = \"open\"\n";
const AT: &str = "127.0.0.1:10162";
const COLD_START: &str = "1.3.6.1.6.3.1.1.5.1";
const LINK_DOWN: &str = "1.3.6.1.6.3.1.1.5.3";
const LINK_UP: &str = "1.3.6.1.6.3.1.1.5.4";
const IF_NAME: &str = "1.3.6.1.2.1.31.1.1.1.1";

/// Sends with `tool`; whether it was content.
fn send(space: &Space, tool: &str, arguments: &[&str]) -> Result<(), String> {
    let output = space
        .command(tool)
        .env("MIBS", "")
        // Nothing is kept between runs: each tool is an engine of its own.
        .env("SNMP_PERSISTENT_FILE", "/dev/null")
        .args(["-r", "1", "-t", "5"])
        .args(arguments)
        .output()
        .unwrap();
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The options of a user.
fn user(name: &str) -> Vec<&str> {
    let keys = ["-A", "authpassword", "-X", "privpassword"];
    let level = match name {
        "aes" => vec!["-l", "authPriv", "-a", "SHA", "-x", "AES"],
        "des" => vec!["-l", "authPriv", "-a", "MD5", "-x", "DES"],
        "signed" => vec!["-l", "authNoPriv", "-a", "SHA-256"],
        _ => vec!["-l", "noAuthNoPriv"],
    };
    [&["-v", "3", "-u", name][..], &level, &keys].concat()
}

#[test]
fn traps_and_informs_of_all_versions_become_incidents() {
    let Some(running) = Running::new("SNMP traps", TRAPS) else {
        return;
    };
    let space = &running.mirror.monitor;
    let old = [
        "-v",
        "1",
        "-c",
        "public",
        AT,
        "1.3.6.1.4.1.8072.3",
        "192.0.2.77",
        "2",
        "0",
        "",
    ];
    let port = format!("{IF_NAME}.3");
    let interface = [port.as_str(), "s", "Gi0/3"];
    send(space, "snmptrap", &[&old[..], &interface].concat()).unwrap();
    let incident = running.expect("trap", "192.0.2.77 Gi0/3 linkDown");
    assert_eq!(incident["trigger"]["source"], "udp://127.0.0.1:10162");
    let text = incident["trigger"]["text"].as_str().unwrap();
    assert!(text.starts_with("linkDown from 192.0.2.77: "), "{text}");

    let community = ["-v", "2c", "-c", "other", AT, ""];
    send(space, "snmptrap", &[&community[..], &[COLD_START]].concat()).unwrap();
    running.expect("trap", "127.0.0.1 coldStart");
    let inform = [&community[..], &[LINK_DOWN], &interface].concat();
    send(space, "snmpinform", &inform).unwrap();
    let down = running.expect("trap", "127.0.0.1 Gi0/3 linkDown");
    let up = [&community[..], &[LINK_UP], &interface].concat();
    send(space, "snmpinform", &up).unwrap();
    let over = running
        .site
        .sealed_where("that is over", |one| one["resolved"].is_string());
    assert_eq!(over["id"], down["id"]);

    let mut traps = Vec::new();
    for (place, name) in ["aes", "des", "signed", "open"].into_iter().enumerate() {
        for (tool, number) in [("snmptrap", 1), ("snmpinform", 2)] {
            let trap = format!("1.3.6.1.4.1.99999.{place}.0.{number}");
            let engine = ["-e", "0x80001f8804746573746572"];
            let engine = if tool == "snmptrap" { &engine[..] } else { &[] };
            let arguments = [engine, &user(name), &[AT, "", &trap]].concat();
            send(space, tool, &arguments).unwrap_or_else(|said| panic!("{tool} {name}: {said}"));
            traps.push(trap);
        }
    }
    for trap in &traps {
        running.expect("trap", trap);
    }
    let wrong: Vec<&str> = user("aes")
        .into_iter()
        .map(|word| {
            if word == "authpassword" {
                "wrongpassword"
            } else {
                word
            }
        })
        .collect();
    let before = running.site.list().len();
    let arguments = [&wrong[..], &[AT, "", "1.3.6.1.4.1.99999.9.0.1"]].concat();
    assert!(send(space, "snmpinform", &arguments).is_err());
    let stranger = ["-v", "2c", "-c", "guess", AT, "", COLD_START];
    assert!(send(space, "snmpinform", &stranger).is_err());
    assert_eq!(running.site.list().len(), before);
    let state = running.site.incidents();
    let engine = fs::read_to_string(state.with_file_name("snmp-engine.json"));
    assert!(engine.is_ok_and(|text| text.contains("\"boots\":1")));
}
