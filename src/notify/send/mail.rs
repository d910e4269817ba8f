//! A mail by SMTP: one message per connection.

use std::time::SystemTime;

use lettre::address::AddressError;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::Failure;
use crate::notify::config::{MailTls, NotifyConfig, NotifyError};
use crate::notify::event::Event;
use crate::notify::shape::{self, Look};

/// Who sends, to whom, and through what.
pub(in crate::notify) struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    to: String,
    from: Mailbox,
    recipients: Vec<Mailbox>,
}

fn mailbox(config: &NotifyConfig, key: &'static str, text: &str) -> Result<Mailbox, NotifyError> {
    let bad = |why: &str| config.bad(key, format!("{text:?} is no mail address: {why}"));
    if text.chars().any(char::is_control) {
        return Err(bad("it holds a control character"));
    }
    text.parse()
        .map_err(|error: AddressError| bad(&error.to_string()))
}

/// Checks what needs no file.
pub(in crate::notify) fn check(config: &NotifyConfig) -> Result<(), NotifyError> {
    config.need("server", config.server.as_deref())?;
    mailbox(config, "from", config.need("from", config.from.as_deref())?)?;
    config.need("to", config.to.first())?;
    for to in &config.to {
        mailbox(config, "to", to)?;
    }
    let has_password = config.password.is_some() || config.password_file.is_some();
    if config.user.is_some() && !has_password {
        config.need::<str>("password", None)?;
    }
    if has_password {
        config.need("user", config.user.as_deref())?;
        if config.tls == Some(MailTls::None) {
            return Err(config.bad(
                "tls",
                "a password would travel in the clear; use \"starttls\" or \"implicit\"",
            ));
        }
    }
    Ok(())
}

impl Mail {
    pub(in crate::notify) fn open(config: &NotifyConfig, host: &str) -> Result<Self, NotifyError> {
        check(config)?;
        let server = config.need("server", config.server.as_deref())?;
        let mode = config.tls.unwrap_or_default();
        let (port, tls) = match mode {
            MailTls::Starttls => (587, Tls::Required(parameters(config, server)?)),
            MailTls::Implicit => (465, Tls::Wrapper(parameters(config, server)?)),
            MailTls::None => (25, Tls::None),
        };
        let port = config.port.unwrap_or(port);
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server)
            .port(port)
            .tls(tls)
            .timeout(Some(config.timeout))
            .hello_name(ClientId::Domain(host.to_owned()));
        if let (Some(user), Some(password)) = (&config.user, config.secret("password")?) {
            transport = transport.credentials(Credentials::new(user.clone(), password));
        }
        let recipients = config.to.iter().map(|to| mailbox(config, "to", to));
        Ok(Self {
            transport: transport.build(),
            to: format!("{server}:{port}"),
            from: mailbox(config, "from", config.need("from", config.from.as_deref())?)?,
            recipients: recipients.collect::<Result<_, _>>()?,
        })
    }

    /// The server it goes through.
    pub(in crate::notify) fn to(&self) -> &str {
        &self.to
    }

    /// Sends pieces of news in one mail.
    pub(in crate::notify) async fn send(
        &self,
        events: &[Event],
        look: &Look,
    ) -> Result<(), Failure> {
        let message = self.message(events, look)?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => Err(Failure::never(error)),
            Err(error) => Err(Failure::later(error)),
        }
    }

    fn message(&self, events: &[Event], look: &Look) -> Result<Message, Failure> {
        let (subject, text) = shape::mail::text(events, look);
        let id = |id: &str| format!("<{id}@{}>", look.host);
        let mut message = Message::builder()
            .from(self.from.clone())
            .date(SystemTime::now())
            .subject(subject)
            .message_id(Some(id(&shape::id(events))))
            .header(ContentType::TEXT_PLAIN)
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        // What is said of one incident is one conversation, whichever of it is read first.
        if let [one] = events
            && let Some(about) = one.news.incident()
        {
            message = message.references(id(&about.id));
        }
        for to in &self.recipients {
            message = message.to(to.clone());
        }
        let message = message.body(text);
        message.map_err(|error| Failure::never(format!("the mail cannot be made: {error}")))
    }
}

fn parameters(config: &NotifyConfig, server: &str) -> Result<TlsParameters, NotifyError> {
    let mut builder = TlsParameters::builder(server.to_owned());
    if let Some(path) = &config.ca_file {
        let bad = |why: &dyn std::fmt::Display| {
            config.bad("ca_file", format!("{}: {why}", path.display()))
        };
        let pem = std::fs::read(path).map_err(|error| bad(&error))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| bad(&error))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder
        .build_rustls()
        .map_err(|error| config.bad("server", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::config::Language;
    use crate::notify::event::samples;

    fn mail() -> Mail {
        let text = "name = \"m\"\nkind = \"email\"\nserver = \"mail.test\"\ntls = \"none\"\n\
            from = \"タップ <tap@h.test>\"\nto = [\"noc@h.test\", \"Boss <boss@h.test>\"]\n";
        Mail::open(&toml::from_str(text).unwrap(), "tap-1").unwrap()
    }

    #[test]
    fn no_foreign_text_becomes_a_header() {
        let events = [samples::opened("x\r\nBcc: all@evil.test\r\n\r\nhello あ")];
        let message = mail()
            .message(&events, &Look::sample(Language::Ja))
            .unwrap();
        let whole = String::from_utf8(message.formatted()).unwrap();
        let (head, _) = whole.split_once("\r\n\r\n").unwrap();
        assert!(!head.contains("\r\nBcc"), "{head}");
        assert!(head.is_ascii(), "{head}");
        assert!(head.contains("Auto-Submitted: auto-generated"), "{head}");
        assert!(
            head.contains("Message-ID: <20251123T100211Z-5f3a9c.opened@tap-1>"),
            "{head}"
        );
        assert!(
            head.contains("References: <20251123T100211Z-5f3a9c@tap-1>"),
            "{head}"
        );
        assert_eq!(message.envelope().to().len(), 2);
    }
}
