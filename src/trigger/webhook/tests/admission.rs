//! Who may call a hook, and who may not.

use std::path::PathBuf;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::*;

fn shows(headers: &[(&str, &str)]) -> Caller {
    Caller {
        headers: headers.iter().copied().collect(),
        ..Caller::default()
    }
}

#[test]
fn only_the_token_opens_the_hook() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret-token\n").unwrap();
    let given = config(HookKind::Generic);
    let mut filed = WebhookConfig::new("hook", HookKind::Generic);
    filed.token_file = file.into();
    let mut rotated = WebhookConfig::new("hook", HookKind::Generic);
    rotated.token = Several::Any(vec!["new-token".to_owned(), "s3cret-token".to_owned()]);
    for config in [given, filed, rotated] {
        let hook = hook(&config);
        let bearer = |text: &str| hook.admit(&shows(&[("Authorization", text)]));
        assert_eq!(bearer("Bearer s3cret-token"), Ok(()));
        assert_eq!(bearer("bearer  s3cret-token "), Ok(()));
        let in_path = Caller {
            token: Some("s3cret-token".to_owned()),
            ..Caller::default()
        };
        assert_eq!(hook.admit(&in_path), Ok(()));
        let wrong = [
            "",
            "Bearer",
            "Bearer ",
            "s3cret-token",
            "Basic s3cret-token",
            "Bearer s3cret-tokem",
            "Bearer s3cret-token2",
        ];
        for header in wrong {
            assert_eq!(bearer(header), Err(Denied::Token), "{header:?}");
        }
        assert_eq!(hook.admit(&Caller::default()), Err(Denied::Token));
        assert_eq!(hook.handle().get(Count::Refused), 8);
        assert!(!format!("{config:?}{hook:?}").contains("s3cret"));
    }
}

#[test]
fn basic_authentication_and_addresses() {
    let mut config = WebhookConfig::new("hook", HookKind::Generic);
    config.basic = "monitor:p:ss".to_owned().into();
    config.allow = vec!["192.0.2.0/24".to_owned(), "2001:db8::1".to_owned()];
    let hook = hook(&config);
    let from = |address: Option<&str>, pair: &str| {
        let mut caller = shows(&[(
            "authorization",
            &format!("Basic {}", Base64::encode_string(pair.as_bytes())),
        )]);
        caller.address = address.map(|address| address.parse().unwrap());
        hook.admit(&caller)
    };
    assert_eq!(from(Some("192.0.2.9"), "monitor:p:ss"), Ok(()));
    assert_eq!(from(Some("::ffff:192.0.2.9"), "monitor:p:ss"), Ok(()));
    assert_eq!(from(Some("2001:db8::1"), "monitor:p:ss"), Ok(()));
    assert_eq!(from(None, "monitor:p:ss"), Ok(()), "over the unix socket");
    assert_eq!(from(Some("192.0.2.9"), "monitor:pass"), Err(Denied::Basic));
    let elsewhere = from(Some("198.51.100.1"), "monitor:p:ss");
    assert!(matches!(elsewhere, Err(Denied::Address(_))));
}

fn mac(secret: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[test]
fn every_dialect_of_signatures() {
    let body = "{\"subject\":\"s\"}";
    let now = at(RECEIVED);
    let stamp = (now.as_ns() / 1_000_000_000).to_string();
    let mut config = WebhookConfig::new("hook", HookKind::Generic);
    config.hmac_secret = Several::Any(vec!["old".to_owned(), "whsec_c2VjcmV0".to_owned()]);
    let plain = mac(b"whsec_c2VjcmV0", body);
    let standard = mac(b"secret", &format!("msg_1.{stamp}.{body}"));
    let pagerduty = format!("v1={},v1={}", hex::encode([0; 32]), hex::encode(&plain));
    let github = format!("sha256={}", hex::encode(&plain));
    let standard = format!("v1,AAAA v1,{}", Base64::encode_string(&standard));
    let good: [&[(&str, &str)]; 6] = [
        &[("X-Grafana-Alerting-Signature", &hex::encode(&plain))],
        &[("X-PagerDuty-Signature", &pagerduty)],
        &[("X-Hub-Signature-256", &github)],
        &[
            ("webhook-signature", &standard),
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", &stamp),
        ],
        &[("X-SFX-Signature", &Base64::encode_string(&plain))],
        &[(
            "X-Grafana-Alerting-Signature",
            &hex::encode(mac(b"old", body)),
        )],
    ];
    let hook = hook(&config);
    for headers in good {
        let caller = shows(headers);
        assert_eq!(
            hook.check(&caller, body.as_bytes(), now),
            Ok(()),
            "{headers:?}"
        );
        let altered = hook.check(&caller, b"{\"subject\":\"t\"}", now);
        assert!(matches!(altered, Err(Denied::Signature(_))), "{headers:?}");
    }
    let later = now.plus(Duration::from_secs(301));
    let stale = hook.check(&shows(good[3]), body.as_bytes(), later);
    assert!(matches!(stale, Err(Denied::Stale(_))), "{stale:?}");
    for nonsense in ["", "sha256=", "v1=zz", "v1,***", "\u{e9}"] {
        for (header, _) in good.map(|headers| headers[0]) {
            let caller = shows(&[(header, nonsense)]);
            assert!(
                hook.check(&caller, body.as_bytes(), now).is_err(),
                "{header}: {nonsense}"
            );
        }
    }
    let unsigned = hook.check(&Caller::default(), body.as_bytes(), now);
    assert!(
        unsigned
            .unwrap_err()
            .to_string()
            .contains("x-hub-signature-256")
    );
}

#[test]
fn grafanas_signed_timestamp() {
    let body = "{}";
    let now = at(RECEIVED);
    let stamp = (now.as_ns() / 1_000_000_000).to_string();
    let mut config = WebhookConfig::new("hook", HookKind::Grafana);
    config.hmac_secret = "secret".to_owned().into();
    config.hmac_header = Some("X-Signature".to_owned());
    config.hmac_timestamp_header = Some("X-Stamp".to_owned());
    let hook = hook(&config);
    let signed = hex::encode(mac(b"secret", &format!("{stamp}:{body}")));
    let caller = shows(&[("x-signature", &signed), ("x-stamp", &stamp)]);
    assert_eq!(hook.check(&caller, body.as_bytes(), now), Ok(()));
    let earlier = now.minus(Duration::from_secs(301));
    assert!(matches!(
        hook.check(&caller, body.as_bytes(), earlier),
        Err(Denied::Stale(_))
    ));
    let bare = shows(&[("x-signature", &hex::encode(mac(b"secret", body)))]);
    assert!(
        hook.check(&bare, body.as_bytes(), now).is_err(),
        "without its timestamp"
    );
}

#[test]
fn a_hook_without_a_secret_is_no_hook() {
    let error = |config: &WebhookConfig| {
        let made = Hook::from_config(config, &Sources::default());
        made.unwrap_err().to_string()
    };
    let none = WebhookConfig::new("hook", HookKind::Generic);
    assert!(error(&none).contains("token, basic or hmac_secret"));
    let with = |change: &dyn Fn(&mut WebhookConfig)| {
        let mut config = config(HookKind::Generic);
        change(&mut config);
        error(&config)
    };
    assert!(with(&|c| c.token = "  ".to_owned().into()).contains("empty"));
    assert!(with(&|c| c.token_file = PathBuf::from("/nowhere").into()).contains("either token"));
    assert!(with(&|c| c.basic = "nopassword".to_owned().into()).contains("user:password"));
    assert!(with(&|c| c.allow = vec!["here".to_owned()]).contains("10.0.0.0/8"));
    assert!(with(&|c| c.hmac_secret = "whsec_*".to_owned().into()).contains("base64"));
    assert!(with(&|c| c.name = "../x".to_owned()).contains("name"));
    let filed = WebhookConfig {
        token_file: PathBuf::from("/nowhere/token").into(),
        ..WebhookConfig::new("hook", HookKind::Generic)
    };
    assert!(error(&filed).contains("/nowhere/token"));
    let twice = [config(HookKind::Generic), config(HookKind::Generic)];
    assert!(matches!(
        Hook::all(&twice, &Sources::default()),
        Err(HookError::Duplicate(_))
    ));
}

fn drilled(config: &WebhookConfig) {
    let sources = Sources::default();
    let hook = Hook::from_config(config, &sources).unwrap();
    let window = (Duration::from_secs(10), Duration::from_secs(2));
    let issued = sources.marks().issue(Kind::Webhook, "h", window).unwrap();
    let now = at(RECEIVED);
    let call = Rehearsal::new(config).unwrap().call(&issued.mark, now);
    let token = call.path.strip_prefix("/hooks/h").unwrap();
    let token = token.strip_prefix('/').map(|shown| {
        let decoded = percent_encoding::percent_decode_str(shown).decode_utf8();
        decoded.unwrap().into_owned()
    });
    let caller = Caller {
        headers: call.headers.into_iter().collect(),
        token,
        ..Caller::default()
    };
    hook.admit(&caller).unwrap();
    hook.check(&caller, &call.body, now).unwrap();
    let take = || hook.accept(&caller, &call.body, now).unwrap();
    let drill =
        |events: &[Event], kind| matches!(events, [Event::Trigger(one)] if one.kind == kind);
    let what = (config.kind, config.hmac);
    assert!(drill(&take(), Kind::Drill), "{what:?}");
    assert!(
        drill(&take(), Kind::Webhook),
        "{what:?}: sent again it is ordinary"
    );
}

#[test]
fn every_hook_hears_its_own_drill() {
    let plain = |kind| WebhookConfig::new("h", kind);
    for kind in HookKind::ALL {
        let token = "s3cret/token ?".to_owned().into();
        drilled(&WebhookConfig {
            token,
            ..plain(kind)
        });
    }
    for hmac in [
        Dialect::Auto,
        Dialect::Grafana,
        Dialect::Pagerduty,
        Dialect::Github,
        Dialect::Standard,
        Dialect::Splunk,
    ] {
        for stamp in [None, Some("X-Stamp".to_owned())] {
            drilled(&WebhookConfig {
                token: "s3cret".to_owned().into(),
                basic: "user:pass".to_owned().into(),
                hmac_secret: "whsec_c2VjcmV0LW9mLXRoZS10ZXN0".to_owned().into(),
                hmac,
                hmac_timestamp_header: stamp,
                ..plain(HookKind::Generic)
            });
        }
    }
    for each in ["", "each = \"/data/list\""] {
        let map =
            format!("{each}\nsubject = [\"/a~1b/0/name\", \"/title\"]\ntext = \"/a~1b/0/text\"");
        drilled(&WebhookConfig {
            token: "s3cret".to_owned().into(),
            map: Some(toml::from_str(&map).unwrap()),
            ..plain(HookKind::Generic)
        });
    }
}
