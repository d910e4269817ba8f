//! Forms as an object of texts: `application/x-www-form-urlencoded` and `multipart/form-data`
//! (RFC 7578).

use std::convert::Infallible;

use futures_util::{FutureExt, stream};
use multer::Multipart;
use serde_json::{Map, Value};

use super::BodyError;

/// Fields taken of one form.
const FIELDS_MAX: usize = 1024;

/// The fields of a form; `None` of a body that is none.
pub(super) fn fields(content_type: &str, body: &[u8]) -> Option<Result<Value, BodyError>> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Some(Ok(urlencoded(body)));
    }
    if media.eq_ignore_ascii_case("multipart/form-data") {
        return Some(multipart(content_type, body).map_err(|error| {
            let why = format!("multipart/form-data: {error}");
            BodyError::Json(why)
        }));
    }
    None
}

fn urlencoded(body: &[u8]) -> Value {
    let pairs = form_urlencoded::parse(body).take(FIELDS_MAX);
    let fields: Map<String, Value> = pairs
        .map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())))
        .collect();
    Value::Object(fields)
}

fn multipart(content_type: &str, body: &[u8]) -> Result<Value, multer::Error> {
    let boundary = multer::parse_boundary(content_type)?;
    let body = stream::iter([Ok::<_, Infallible>(body.to_vec())]);
    let read = read(Multipart::new(body, boundary));
    // The whole body is there: it never waits.
    read.now_or_never()
        .unwrap_or(Err(multer::Error::IncompleteStream))
}

async fn read(mut form: Multipart<'_>) -> Result<Value, multer::Error> {
    let mut fields = Map::new();
    while let Some(field) = form.next_field().await? {
        if fields.len() >= FIELDS_MAX {
            break;
        }
        let name = field.name().unwrap_or_default().to_owned();
        let value = field.bytes().await?;
        let value = String::from_utf8_lossy(&value).into_owned();
        fields.insert(name, Value::from(value));
    }
    Ok(Value::Object(fields))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MULTIPART: &str = "multipart/form-data; boundary=\"b-1\"";

    fn of(content_type: &str, body: &str) -> Result<Value, BodyError> {
        fields(content_type, body.as_bytes()).unwrap()
    }

    #[test]
    fn both_kinds_of_forms_are_fields() {
        let wanted = json!({"host": "core 1", "output": "a&b"});
        let urlencoded = "application/x-www-form-urlencoded; charset=UTF-8";
        assert_eq!(
            of(urlencoded, "host=core+1&output=a%26b"),
            Ok(wanted.clone())
        );
        let parts = "--b-1\r\nContent-Disposition: form-data; name=\"host\"\r\n\r\ncore 1\r\n\
                     --b-1\r\nContent-Disposition: form-data; name=\"output\"; filename=\"x\"\r\n\
                     Content-Type: text/plain\r\n\r\na&b\r\n--b-1--\r\n";
        assert_eq!(of(MULTIPART, parts), Ok(wanted));
        assert_eq!(fields("application/json", b"{}"), None);
        assert_eq!(fields("", b""), None);
    }

    #[test]
    fn a_form_that_is_not_whole_says_so() {
        let head = "--b-1\r\nContent-Disposition: form-data; name=\"host\"\r\n\r\n";
        for (content_type, body) in [
            ("multipart/form-data", "--b-1--"),
            (MULTIPART, "host=core-1"),
            (MULTIPART, ""),
            (MULTIPART, head),
            (MULTIPART, "--b-1\r\nx"),
        ] {
            let error = of(content_type, body).unwrap_err().to_string();
            assert!(error.contains("multipart/form-data: "), "{error}");
        }
    }

    #[test]
    fn hostile_forms_are_bounded() {
        let many = "a0=1&".repeat(10_000);
        let numbered: Vec<String> = (0..10_000).map(|number| format!("{number}=1&")).collect();
        for body in [many, numbered.concat()] {
            let read = of("application/x-www-form-urlencoded", &body).unwrap();
            assert!(read.as_object().unwrap().len() <= FIELDS_MAX);
        }
        let part = "--b-1\r\nContent-Disposition: form-data; name=\"NAME\"\r\n\r\n1\r\n";
        let parts: Vec<String> = (0..10_000)
            .map(|number| part.replace("NAME", &number.to_string()))
            .collect();
        let read = of(MULTIPART, &(parts.concat() + "--b-1--")).unwrap();
        assert_eq!(read.as_object().unwrap().len(), FIELDS_MAX);
    }
}
