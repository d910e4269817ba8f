//! Whom a certificate names: its common name, and the DNS names, e-mail and IP addresses and URIs
//! of its subject alternative name. Asked of certificates that an authority of ours has signed.

use std::net::IpAddr;

const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// `id-ce-subjectAltName`, 2.5.29.17.
const ALTERNATIVES: &[u8] = &[0x55, 29, 17];
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const ADDRESS: u8 = 0x87;
/// UTF8String, PrintableString, TeletexString, IA5String: all read as UTF-8.
const TEXTS: [u8; 4] = [0x0c, 0x13, 0x14, 0x16];

/// The names in a certificate (DER).
pub fn of_certificate(der: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    // What cannot be read on names nobody.
    let _whole = read(der, &mut names);
    names
}

fn read(der: &[u8], names: &mut Vec<String>) -> Option<()> {
    let mut rest = der;
    let mut certificate = within(&mut rest, SEQUENCE)?;
    let mut body = within(&mut certificate, SEQUENCE)?;
    if body.first() == Some(&VERSION) {
        element(&mut body)?;
    }
    // Serial number, signature, issuer, validity.
    for _ in 0..4 {
        element(&mut body)?;
    }
    let subject = within(&mut body, SEQUENCE)?;
    common_names(subject, names)?;
    while let Some((tag, mut contents)) = element(&mut body) {
        if tag == EXTENSIONS {
            let extensions = within(&mut contents, SEQUENCE)?;
            alternatives(extensions, names)?;
        }
    }
    Some(())
}

fn common_names(mut subject: &[u8], names: &mut Vec<String>) -> Option<()> {
    while let Some((_, mut set)) = element(&mut subject) {
        while let Some((_, mut attribute)) = element(&mut set) {
            let (_, kind) = element(&mut attribute)?;
            let (tag, value) = element(&mut attribute)?;
            if kind == COMMON_NAME && TEXTS.contains(&tag) {
                names.extend(String::from_utf8(value.to_vec()));
            }
        }
    }
    Some(())
}

fn alternatives(mut extensions: &[u8], names: &mut Vec<String>) -> Option<()> {
    while let Some((_, mut extension)) = element(&mut extensions) {
        if element(&mut extension)?.1 != ALTERNATIVES {
            continue;
        }
        // An optional "critical" stands before the value.
        while let Some((tag, mut value)) = element(&mut extension) {
            if tag != OCTETS {
                continue;
            }
            let mut general = within(&mut value, SEQUENCE)?;
            while let Some((tag, value)) = element(&mut general) {
                names.extend(alternative(tag, value));
            }
        }
    }
    Some(())
}

fn alternative(tag: u8, value: &[u8]) -> Option<String> {
    match tag {
        EMAIL | DNS | URI => String::from_utf8(value.to_vec()).ok(),
        ADDRESS => {
            let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(value).map(IpAddr::from);
            v4.or_else(|_| v6()).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// The contents of the element in front, which must have this tag.
fn within<'a>(bytes: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    let (tag, contents) = element(bytes)?;
    (tag == wanted).then_some(contents)
}

/// Takes the element in front off: its tag and contents.
fn element<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first);
    if length >= 0x80 {
        let digits = length - 0x80;
        let (number, after) = rest.split_at_checked(digits)?;
        if digits == 0 || digits > 4 {
            return None;
        }
        length = number
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        rest = after;
    }
    let (contents, after) = rest.split_at_checked(length)?;
    *bytes = after;
    Some((*tag, contents))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn the_names_that_openssl_wrote_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cert.pem");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "1", "-keyout", "/dev/null", "-out"])
            .arg(&path)
            .args(["-subj", "/O=Example/CN=grafana 東京", "-utf8", "-addext"])
            .arg("subjectAltName=DNS:mon.example.net,IP:192.0.2.7,IP:2001:db8::7,email:a@example.net,URI:spiffe://x/y")
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let der = CertificateDer::from_pem_file(&path).unwrap();
        let names = of_certificate(&der);
        let expected = [
            "grafana 東京",
            "mon.example.net",
            "192.0.2.7",
            "2001:db8::7",
            "a@example.net",
            "spiffe://x/y",
        ];
        assert_eq!(names, expected);
        for cut in 0..der.len() {
            assert!(of_certificate(&der[..cut]).is_empty());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            of_certificate(&bytes);
            of_certificate(&[&[SEQUENCE, 0x81, 200], &bytes[..]].concat());
        }
    }
}
