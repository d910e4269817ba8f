//! Notifications, taken by real receivers: an HTTP server, mail servers with STARTTLS or TLS and login,
//! rsyslog by UDP, TCP and within TLS.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Process, Server, Site, Space, run, wait_for};
use crate::syslog::Authority;
use crate::triggers::Running;

/// Takes POSTs, answers as its file `answer` says, and writes a line for each: path, headers, body.
const RECEIVER: &str = r#"
import http.server, json, os, sys
folder, port = sys.argv[1], int(sys.argv[2])
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = open(os.path.join(folder, "answer")).read().split()
        with open(os.path.join(folder, "posts"), "a") as out:
            headers = {name.lower(): value for name, value in self.headers.items()}
            out.write(json.dumps({"path": self.path, "headers": headers,
                "body": body.decode(), "answer": int(answer[0])}) + "\n")
        self.send_response(int(answer[0]))
        for header in answer[1:]:
            self.send_header(*header.split("=", 1))
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
"#;

/// A mail server that wants STARTTLS, or speaks TLS from the first byte, and a login; it keeps what it
/// takes in a Maildir.
const MAIL_SERVER: &str = r#"
import asyncio, ssl, sys, threading
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP, AuthResult
box, port, certificate, key, how = sys.argv[1], int(sys.argv[2]), *sys.argv[3:6]
tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain(certificate, key)
def login(server, session, envelope, mechanism, data):
    good = (data.login, data.password) == (b"tap", b"a password of the test")
    return AuthResult(success=good, handled=good)
async def speak_tls():
    serve = lambda: SMTP(Mailbox(box), authenticator=login, auth_required=True, auth_require_tls=False)
    server = await asyncio.get_running_loop().create_server(serve, "127.0.0.1", port, ssl=tls)
    await server.serve_forever()
if how == "tls":
    asyncio.run(speak_tls())
Controller(Mailbox(box), hostname="127.0.0.1", port=port, tls_context=tls, require_starttls=True,
    authenticator=login, auth_required=True, auth_require_tls=True).start()
threading.Event().wait()
"#;

/// An HTTP server that can be stopped and started again.
struct Receiver {
    folder: PathBuf,
    port: u16,
}

impl Receiver {
    fn new(site: &Path, name: &str, port: u16) -> Self {
        let folder = site.join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("receiver.py"), RECEIVER).unwrap();
        fs::write(folder.join("posts"), "").unwrap();
        let receiver = Self { folder, port };
        receiver.answer("204");
        receiver
    }

    fn answer(&self, with: &str) {
        fs::write(self.folder.join("answer"), with).unwrap();
    }

    fn start(&self, space: &Space) -> Process {
        let mut command = space.command("/usr/bin/python3");
        command
            .arg(self.folder.join("receiver.py"))
            .arg(&self.folder)
            .arg(self.port.to_string());
        Process::start(&mut command, &self.folder.join("log"))
    }

    fn posts(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.join("posts")).unwrap();
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        whole
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The bodies of what was taken.
    fn taken(&self) -> Vec<Value> {
        let posts = self.posts();
        let taken = posts.iter().filter(|post| post["answer"] == 204);
        taken
            .map(|post| serde_json::from_str(post["body"].as_str().unwrap()).unwrap())
            .collect()
    }

    fn ids(&self) -> Vec<String> {
        let taken = self.taken();
        taken.iter().map(|body| text(&body["id"])).collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn freeze(site: &Site, reason: &str) -> String {
    let id = site.ask(&[
        "freeze", "--before", "1s", "--after", "100ms", "--reason", reason,
    ]);
    id.trim().to_owned()
}

fn target(site: &Site, name: &str) -> Value {
    let status = site.http("/api/v1/status", &[]).json();
    let all = status["server"]["notify"].as_array().unwrap();
    let found = all.iter().find(|target| target["name"] == name);
    found
        .unwrap_or_else(|| panic!("no {name}: {status}"))
        .clone()
}

const HOOKS: &str = "[[notify]]\nname = \"hook\"\nkind = \"webhook\"\n\
    url = \"http://127.0.0.1:9001/in?x=1\"\ntoken = \"token-of-the-test\"\n\
    hmac_secret = \"whsec_c2VjcmV0IG9mIHRoZSB0ZXN0ISE=\"\nbase_url = \"https://tap.test\"\n\
    on = [\"opened\", \"promoted\", \"sealed\"]\n\
    [[notify]]\nname = \"second\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9002/\"\n\
    on = [\"sealed\", \"trouble\", \"recovered\"]\n\
    [watch]\nhold = \"0s\"\nclear = \"0s\"\n";

#[test]
fn what_a_dead_receiver_missed_arrives_once_and_in_order_after_a_kill() {
    let Some(mut running) = Running::new("notifications", HOOKS) else {
        return;
    };
    let first = Receiver::new(&running.site.path(""), "first", 9001);
    let second = Receiver::new(&running.site.path(""), "second", 9002);
    let _second = second.start(&running.mirror.monitor);

    // The first receiver is down; the second one hears of the seal, so both queues are at work.
    let a = freeze(&running.site, "first `fault` <!channel>");
    running.site.sealed(&a);
    wait_for("the second target to hear of it", || {
        let ids = second.ids();
        if ids.contains(&format!("{a}.sealed")) {
            Ok(())
        } else {
            Err(format!("{ids:?}"))
        }
    });
    wait_for("the first target to be called failing", || {
        let status = target(&running.site, "hook");
        if status["state"] == "failing" && status["waiting"] == 2 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    let said = running.site.ask(&["status"]);
    assert!(
        said.contains("hook (webhook): failing, 0 sent, 2 waiting: cannot connect"),
        "{said}"
    );
    let output = running.site.client(&["notify", "test", "hook"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("http://127.0.0.1:9001: cannot connect: "),
        "{error}"
    );

    // Our server dies, another incident is opened by the next one, and the receiver comes up.
    running.server.process.kill();
    running.server = Server::start(&running.site, &running.mirror.monitor);
    let b = freeze(&running.site, "second fault");
    running.site.sealed(&b);
    let _first = first.start(&running.mirror.monitor);
    let expected = [&a, &b].map(|id| [format!("{id}.opened"), format!("{id}.sealed")]);
    let expected = expected.as_flattened();
    wait_for("everything that waited", || {
        let ids = first.ids();
        if ids.len() >= expected.len() {
            Ok(())
        } else {
            Err(format!("{ids:?}"))
        }
    });
    wait_for("it to be noted", || {
        let kept = fs::read_to_string(running.site.path("var/notify.json")).unwrap();
        let kept: Value = serde_json::from_str(&kept).unwrap();
        let waits = kept["waiting"].to_string();
        if waits.contains("\"hook\"") {
            Err(waits)
        } else {
            Ok(())
        }
    });
    // A restart tells nothing twice; the message that follows would come after a repetition.
    running.server.process.kill();
    running.server = Server::start(&running.site, &running.mirror.monitor);
    let c = freeze(&running.site, "third fault");
    wait_for("the third incident", || {
        let ids = first.ids();
        if ids.contains(&format!("{c}.sealed")) {
            Ok(())
        } else {
            Err(format!("{ids:?}"))
        }
    });
    let all = [expected, &[format!("{c}.opened"), format!("{c}.sealed")]].concat();
    assert_eq!(first.ids(), all);

    let posts = first.posts();
    let opened = first.taken().swap_remove(0);
    assert_eq!(opened["type"], "incident.opened");
    assert_eq!(opened["incident"]["subject"], "first `fault` <!channel>");
    assert_eq!(opened["url"], format!("https://tap.test/#/incidents/{a}"));
    assert_eq!(posts[0]["path"], "/in?x=1");
    assert_eq!(
        posts[0]["headers"]["authorization"],
        "Bearer token-of-the-test"
    );
    check_signature(&posts[0]);

    let said = running.site.ask(&["notify", "test", "hook"]);
    assert!(
        said.starts_with("hook: delivered to http://127.0.0.1:9001 in "),
        "{said}"
    );
    let output = running.site.client(&["notify", "test", "nobody"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("there are: hook, second"), "{error}");
    let metrics = running.site.http("/metrics", &[]).body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let line = "wirewitness_notifications_total{target=\"hook\",result=\"sent\"} 3";
    assert!(metrics.contains(line), "{metrics}");
}

/// The signature as openssl makes it, from what arrived.
fn check_signature(post: &Value) {
    let header = |name: &str| text(&post["headers"][name]);
    let signed = format!(
        "{}.{}.{}",
        header("webhook-id"),
        header("webhook-timestamp"),
        text(&post["body"])
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("signed");
    fs::write(&file, signed).unwrap();
    let made = run(Command::new("sh").arg("-c").arg(format!(
        "openssl dgst -sha256 -mac HMAC -macopt hexkey:$(printf %s c2VjcmV0IG9mIHRoZSB0ZXN0ISE= | \
         openssl base64 -d -A | od -An -tx1 | tr -d ' \\n') -binary {} | openssl base64 -A",
        file.display()
    )));
    assert_eq!(header("webhook-signature"), format!("v1,{made}"));
}

#[test]
fn a_refusal_is_final_a_busy_receiver_is_asked_again_and_trouble_is_told() {
    let Some(mut running) = Running::new("notifications", HOOKS) else {
        return;
    };
    let first = Receiver::new(&running.site.path(""), "first", 9001);
    let second = Receiver::new(&running.site.path(""), "second", 9002);
    let (_first, _second) = (
        first.start(&running.mirror.monitor),
        second.start(&running.mirror.monitor),
    );
    wait_for("the receivers", || {
        let tried = ["hook", "second"].map(|name| running.site.client(&["notify", "test", name]));
        if tried.iter().all(|output| output.status.success()) {
            Ok(())
        } else {
            Err(format!("{tried:?}"))
        }
    });
    first.answer("410");
    second.answer("429 Retry-After=2");
    let a = freeze(&running.site, "refused");
    wait_for("the refusals", || {
        let (hook, second) = (
            target(&running.site, "hook"),
            target(&running.site, "second"),
        );
        if hook["failed"] == 2 && second["last_error"] == "answered 429 Too Many Requests" {
            Ok(())
        } else {
            Err(format!("{hook} {second}"))
        }
    });
    first.answer("204");
    second.answer("204");
    wait_for("the busy receiver to be asked again", || {
        let ids = second.ids();
        if ids.contains(&format!("{a}.sealed")) {
            Ok(())
        } else {
            Err(format!("{ids:?}"))
        }
    });
    // What was refused for good is not repeated: of the next incident everything comes, and only that.
    let b = freeze(&running.site, "taken");
    wait_for("the next incident", || {
        let ids = first.ids();
        if ids.contains(&format!("{b}.sealed")) {
            Ok(())
        } else {
            Err(format!("{ids:?}"))
        }
    });
    let ids: Vec<String> = first.ids();
    let ids: Vec<&String> = ids.iter().filter(|id| !id.starts_with("test-")).collect();
    assert_eq!(ids, [&format!("{b}.opened"), &format!("{b}.sealed")]);

    // The recorder goes away and comes back.
    let told = |kind: &str, code: &str| {
        wait_for(&format!("{kind} of {code}"), || {
            let taken = second.taken();
            let found = taken
                .iter()
                .find(|body| body["type"] == kind && body["trouble"]["code"] == code);
            found.cloned().ok_or_else(|| format!("{taken:?}"))
        })
    };
    running.recorder.process.kill();
    let begun = told("trouble.begun", "recorder_unreachable");
    assert!(begun["trouble"]["until"].is_null(), "{begun}");
    running.recorder = crate::support::Recorder::start(&running.site, &running.mirror.monitor);
    let over = told("trouble.over", "recorder_unreachable");
    assert_eq!(over["trouble"]["since"], begun["trouble"]["since"]);
}

#[test]
fn a_storm_is_a_few_messages_that_name_every_incident_once() {
    const INCIDENTS: usize = 60;
    let hook = "[[webhook]]\nname = \"in\"\nkind = \"generic\"\ntoken = \"secret-of-the-test\"\n\
        [[notify]]\nname = \"chat\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9001/\"\non = [\"opened\"]\n";
    let Some(running) = Running::new("notifications", hook) else {
        return;
    };
    let chat = Receiver::new(&running.site.path(""), "chat", 9001);
    for n in 0..INCIDENTS {
        let body = format!("{{\"subject\": \"storm {n}\", \"text\": \"x\"}}");
        let arguments = [
            "-H",
            "Authorization: Bearer secret-of-the-test",
            "-H",
            "Content-Type: application/json",
            "-d",
            &body,
        ];
        let answer = running.site.http("/hooks/in", &arguments);
        assert_eq!(
            answer.status,
            202,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
    }
    let _chat = chat.start(&running.mirror.monitor);
    let named = |bodies: &[Value]| -> Vec<String> {
        let one = |body: &Value| match body["events"].as_array() {
            Some(events) => events.clone(),
            None => vec![body.clone()],
        };
        let subjects = bodies.iter().flat_map(one);
        subjects
            .map(|event| text(&event["incident"]["subject"]))
            .collect()
    };
    wait_for("every incident to be told", || {
        let count = named(&chat.taken()).len();
        if count >= INCIDENTS {
            Ok(())
        } else {
            Err(format!("{count} are"))
        }
    });
    let mut subjects = named(&chat.taken());
    let messages = chat.taken().len();
    assert!(messages <= 12, "{messages} messages");
    let told = subjects.len();
    subjects.sort_unstable();
    subjects.dedup();
    assert_eq!((told, subjects.len()), (INCIDENTS, INCIDENTS));
}

#[test]
fn mail_goes_out_within_tls_and_syslog_by_every_way() {
    let folder = tempfile::Builder::new()
        .prefix("wwt-told-")
        .tempdir()
        .unwrap();
    let authority = Authority::new(folder.path());
    authority.sign("mail");
    authority.sign("listener");
    let ca = authority.file("ca.pem");
    let password = folder.path().join("password");
    fs::write(&password, "a password of the test\n").unwrap();
    let syslog = |name: &str, address: &str, more: &str| {
        format!(
            "[[notify]]\nname = \"{name}\"\nkind = \"syslog\"\naddress = \"{address}\"\non = [\"opened\"]\n{more}"
        )
    };
    let trusted = format!("ca_file = \"{ca}\"\n");
    let mail = format!(
        "[[notify]]\nname = \"mail\"\nkind = \"email\"\nserver = \"127.0.0.1\"\nport = 2525\n\
         user = \"tap\"\npassword_file = \"{}\"\nfrom = \"Tap <tap@tap.test>\"\n\
         to = [\"noc@tap.test\"]\non = [\"opened\"]\nlanguage = \"ja\"\n",
        password.display()
    );
    let text = [
        mail.clone() + &trusted,
        mail.replace("\"mail\"", "\"stranger\""),
        mail.replace("\"mail\"", "\"smtps\"")
            .replace("port = 2525", "port = 4650\ntls = \"implicit\"")
            + &trusted,
        syslog("udp", "udp://127.0.0.1:5614", ""),
        syslog("tcp", "tcp://127.0.0.1:5615", ""),
        syslog("tls", "tls://127.0.0.1:5616", &trusted),
    ]
    .concat();
    let Some(running) = Running::new("notifications by mail and syslog", &text) else {
        return;
    };
    let space = &running.mirror.monitor;
    let (_mail, inbox) = mail_server(folder.path(), &authority, space, "2525", "starttls");
    let (_smtps, box_of_smtps) = mail_server(folder.path(), &authority, space, "4650", "tls");
    let (_rsyslog, lines) = rsyslog(folder.path(), &authority, space);
    for name in ["mail", "smtps", "tcp", "tls"] {
        wait_for(&format!("{name} to take a message"), || {
            let output = running.site.client(&["notify", "test", name]);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.success() {
                Ok(())
            } else {
                Err(error)
            }
        });
    }

    let id = freeze(&running.site, "x\" ] \\ Bcc: all@evil.test \u{3042}");
    let mail = the_mail(&inbox, &id);
    assert_eq!(the_mail(&box_of_smtps, &id), mail, "within TLS");
    assert!(
        mail.contains("subject=インシデント発生: x\" ] \\ Bcc: all@evil.test あ\n"),
        "{mail}"
    );
    assert!(
        mail.contains("from=Tap <tap@tap.test>\nto=noc@tap.test\nbcc=None\n"),
        "{mail}"
    );
    assert!(
        mail.contains("auto=auto-generated\n") && mail.contains("トリガー: 手動"),
        "{mail}"
    );

    // Without our authority nothing is said to the same server, not even the password.
    let stranger = wait_for("the stranger to be called failing", || {
        let stranger = target(&running.site, "stranger");
        if stranger["state"] == "failing" {
            Ok(stranger)
        } else {
            Err(stranger.to_string())
        }
    });
    assert!(
        text_of(&stranger["last_error"]).contains("certificate"),
        "{stranger}"
    );

    wait_for("the line by udp, tcp and tls", || {
        let said = fs::read_to_string(&lines).unwrap_or_default();
        let of_incident = said.lines().filter(|line| line.contains(&id));
        let mut ways: Vec<&str> = of_incident
            .map(|line| line.split(' ').next().unwrap_or_default())
            .collect();
        ways.sort_unstable();
        if ways == ["tcp", "tls", "udp"] {
            Ok(())
        } else {
            Err(said)
        }
    });
    let said = fs::read_to_string(&lines).unwrap();
    let line = said.lines().find(|line| line.contains(&id)).unwrap();
    // rsyslog read the same facts out of it that we put in.
    assert!(
        line.contains(" daemon warning wirewitness opened "),
        "{line}"
    );
    assert!(
        line.contains("subject=\"x\\\" \\] \\\\ Bcc: all@evil.test あ\""),
        "{line}"
    );
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn mail_server(
    folder: &Path,
    authority: &Authority,
    space: &Space,
    port: &str,
    how: &str,
) -> (Process, PathBuf) {
    let inbox = folder.join(format!("inbox-{how}"));
    let program = folder.join("mail.py");
    fs::write(&program, MAIL_SERVER).unwrap();
    let mut command = space.command("/usr/bin/python3");
    command.arg(&program).arg(&inbox).arg(port);
    command.args([authority.file("mail.pem"), authority.file("mail.key")]);
    command.arg(how);
    let process = Process::start(&mut command, &folder.join(format!("mail-{how}.log")));
    (process, inbox)
}

/// The one mail about an incident.
fn the_mail(inbox: &Path, id: &str) -> String {
    let mails = wait_for("the mail", || {
        let mails: Vec<String> = fs::read_dir(inbox.join("new"))
            .map_err(|error| error.to_string())?
            .map(|entry| read_mail(&entry.unwrap().path()))
            .collect();
        let of_incident: Vec<String> = mails.iter().filter(|m| m.contains(id)).cloned().collect();
        if of_incident.is_empty() {
            Err(format!("{mails:?}"))
        } else {
            Ok(of_incident)
        }
    });
    let [mail] = mails.as_slice() else {
        panic!("{mails:?}");
    };
    mail.clone()
}

/// The headers and the text of a mail, as Python's own reader understands them.
fn read_mail(file: &Path) -> String {
    let reader = "import email, email.policy, sys\n\
        m = email.message_from_file(open(sys.argv[1]), policy=email.policy.default)\n\
        print(f\"subject={m['subject']}\\nfrom={m['from']}\\nto={m['to']}\\nbcc={m['bcc']}\\nauto={m['auto-submitted']}\")\n\
        print(m.get_content())";
    run(Command::new("/usr/bin/python3")
        .env("PYTHONIOENCODING", "utf-8")
        .args(["-c", reader])
        .arg(file))
}

/// An rsyslog that listens in three ways and writes each message's way, facts and data.
fn rsyslog(folder: &Path, authority: &Authority, space: &Space) -> (Process, PathBuf) {
    let lines = folder.join("lines");
    let configuration = format!(
        "global(workDirectory=\"{work}\" DefaultNetstreamDriverCAFile=\"{ca}\"\n\
           DefaultNetstreamDriverCertFile=\"{certificate}\" DefaultNetstreamDriverKeyFile=\"{key}\")\n\
         module(load=\"imudp\")\nmodule(load=\"imptcp\")\n\
         module(load=\"imtcp\" StreamDriver.Name=\"ossl\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\")\n\
         template(name=\"way\" type=\"string\" string=\"%inputname% %syslogfacility-text% %syslogseverity-text% %app-name% %msgid% %structured-data% %msg%\\n\")\n\
         ruleset(name=\"all\") {{ action(type=\"omfile\" file=\"{lines}\" template=\"way\") }}\n\
         input(type=\"imudp\" address=\"127.0.0.1\" port=\"5614\" name=\"udp\" ruleset=\"all\")\n\
         input(type=\"imptcp\" address=\"127.0.0.1\" port=\"5615\" name=\"tcp\" ruleset=\"all\")\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"5616\" name=\"tls\" ruleset=\"all\")\n",
        work = folder.display(),
        ca = authority.file("ca.pem"),
        certificate = authority.file("listener.pem"),
        key = authority.file("listener.key"),
        lines = lines.display(),
    );
    let file = folder.join("rsyslog.conf");
    fs::write(&file, configuration).unwrap();
    let mut command = space.command("rsyslogd");
    command.arg("-n").arg("-f").arg(&file);
    command.arg("-i").arg(folder.join("pid"));
    let process = Process::start(&mut command, &folder.join("rsyslog.log"));
    (process, lines)
}
