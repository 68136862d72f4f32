//! Reading a request's body into typed messages: every problem is collected, then told at once as Cloud Foundry words it.

mod metadata;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use serde_json::{Map, Value};

use crate::Cc;
use crate::errors::{ApiError, ApiResult};

pub use metadata::check_metadata_limits;

/// A JSON object as body; an empty body is an empty object.
#[derive(Clone, Debug, Default)]
pub struct Body(pub Map<String, Value>);

impl FromRequest<Cc> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, cc: &Cc) -> ApiResult<Body> {
        // Bounded by the router's body limit.
        let bytes = Bytes::from_request(request, cc).await.map_err(|_| ApiError::parse())?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Body::default());
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) if object.iter().all(is_storable) => Ok(Body(object)),
            _ => Err(ApiError::parse()),
        }
    }
}

/// Whether every column can hold it: texts without null bytes.
fn is_storable((key, value): (&String, &Value)) -> bool {
    let fits = match value {
        Value::String(text) => !text.contains('\0'),
        Value::Array(items) => items.iter().all(|item| is_storable((key, item))),
        Value::Object(object) => object.iter().all(is_storable),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    };
    fits && !key.contains('\0')
}

impl Body {
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.0)
    }

    /// For audit events: the message as it came, without what is secret.
    pub fn redacted(&self, secret: &[&str]) -> Value {
        let mut object = self.0.clone();
        for key in secret {
            if let Some(value) = object.get_mut(*key) {
                *value = Value::from(crate::REDACTED);
            }
        }
        Value::Object(object)
    }
}

/// The fields of one object. Ask for each by name, then [`Fields::finish`].
#[derive(Debug)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    known: BTreeSet<&'a str>,
    errors: Vec<String>,
    /// Said before each error: `Health check `.
    prefix: String,
}

/// A field that can be left alone, cleared or set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    #[default]
    Keep,
    Clear,
    Set(T),
}

impl<T> Change<T> {
    /// The value after the change, given the one before.
    pub fn over(self, before: Option<T>) -> Option<T> {
        match self {
            Change::Keep => before,
            Change::Clear => None,
            Change::Set(value) => Some(value),
        }
    }
}

impl<'a> Fields<'a> {
    pub fn new(object: &'a Map<String, Value>) -> Fields<'a> {
        Fields { object, known: BTreeSet::new(), errors: Vec::new(), prefix: String::new() }
    }

    /// Any value under `key`, null included.
    pub fn raw(&mut self, key: &'a str) -> Option<&'a Value> {
        self.known.insert(key);
        self.object.get(key)
    }

    /// Any value under `key`; null counts as absent.
    pub fn value(&mut self, key: &'a str) -> Option<&'a Value> {
        self.raw(key).filter(|value| !value.is_null())
    }

    pub fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    pub fn error(&mut self, text: impl AsRef<str>) {
        self.errors.push(format!("{}{}", self.prefix, text.as_ref()));
    }

    pub fn text(&mut self, key: &'a str) -> Option<String> {
        match self.value(key)? {
            Value::String(text) => Some(text.clone()),
            _ => {
                self.error(format!("{} must be a string", spoken(key)));
                None
            }
        }
    }

    /// A text that must be there and not be blank.
    pub fn required_text(&mut self, key: &'a str) -> String {
        match self.value(key) {
            Some(Value::String(text)) if !text.trim().is_empty() => return text.clone(),
            Some(Value::String(_)) | None => self.error(format!("{} can't be blank", spoken(key))),
            Some(_) => self.error(format!("{} must be a string", spoken(key))),
        }
        String::new()
    }

    /// A text whose null clears what was there.
    pub fn change_text(&mut self, key: &'a str) -> Change<String> {
        match self.raw(key) {
            None => Change::Keep,
            Some(Value::Null) => Change::Clear,
            Some(_) => self.text(key).map_or(Change::Keep, Change::Set),
        }
    }

    pub fn flag(&mut self, key: &'a str) -> Option<bool> {
        match self.value(key)? {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) if text == "true" || text == "false" => Some(text == "true"),
            _ => {
                self.error(format!("{} must be a boolean", spoken(key)));
                None
            }
        }
    }

    /// A whole number in `range`, also when it came as a text.
    pub fn int(&mut self, key: &'a str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.value(key)?;
        let number =
            value.as_i64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
        match number {
            Some(number) if range.contains(&number) => return Some(number),
            Some(number) if number > *range.end() => {
                self.error(format!(
                    "{} must be less than or equal to {}",
                    spoken(key),
                    range.end()
                ));
            }
            Some(_) if *range.start() == 1 => {
                self.error(format!("{} must be greater than 0", spoken(key)))
            }
            Some(_) => self.error(format!(
                "{} must be greater than or equal to {}",
                spoken(key),
                range.start()
            )),
            None if value.is_number() => self.error(format!("{} must be an integer", spoken(key))),
            None => self.error(format!("{} is not a number", spoken(key))),
        }
        None
    }

    /// A number whose null clears what was there.
    pub fn change_int(&mut self, key: &'a str, range: RangeInclusive<i64>) -> Change<i64> {
        match self.raw(key) {
            None => Change::Keep,
            Some(Value::Null) => Change::Clear,
            Some(_) => self.int(key, range).map_or(Change::Keep, Change::Set),
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &'a str) -> Option<Vec<String>> {
        let Some(items) = self.value(key)?.as_array() else {
            self.error(format!("{} must be an array", spoken(key)));
            return None;
        };
        let texts: Option<Vec<String>> =
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        if texts.is_none() {
            self.error(format!("{} can only contain strings", spoken(key)));
        }
        texts
    }

    pub fn object(&mut self, key: &'a str) -> Option<&'a Map<String, Value>> {
        match self.value(key)? {
            Value::Object(object) => Some(object),
            _ => {
                self.error(format!("{} must be an object", spoken(key)));
                None
            }
        }
    }

    /// Reads an object inside this one with the same care; absent means that `read` is not called.
    pub fn inside<T>(
        &mut self,
        key: &'a str,
        read: impl FnOnce(&mut Fields<'a>) -> T,
    ) -> Option<T> {
        let object = self.object(key)?;
        let mut inner =
            Fields { prefix: format!("{}{} ", self.prefix, spoken(key)), ..Fields::new(object) };
        let value = read(&mut inner);
        inner.check_unknown();
        self.errors.append(&mut inner.errors);
        Some(value)
    }

    /// The guids under `relationships`, all in one go: `relationships(&["space"])` is `[Some("…")]`.
    /// `required` names must be there.
    pub fn relationships<const N: usize>(&mut self, required: [&'a str; N]) -> [String; N] {
        let mut guids = [const { String::new() }; N];
        let Some(object) = self.object("relationships") else {
            if self.value("relationships").is_none() {
                self.error(
                    "Relationships 'relationships' must include one or more valid relationships",
                );
            }
            return guids;
        };
        let mut inner = Fields { prefix: "Relationships ".to_owned(), ..Fields::new(object) };
        for (guid, name) in guids.iter_mut().zip(required) {
            match inner.to_one(name) {
                Change::Set(found) => *guid = found,
                Change::Keep | Change::Clear => {
                    inner.error(format!("{} can't be blank", spoken(name)))
                }
            }
        }
        inner.check_unknown();
        self.errors.append(&mut inner.errors);
        guids
    }

    /// A to-one relationship named `key` in this object: `{"data": {"guid": …}}` or `{"data": null}`.
    #[expect(clippy::wrong_self_convention, reason = "the relationship is to one or to many")]
    pub fn to_one(&mut self, key: &'a str) -> Change<String> {
        let Some(value) = self.value(key) else { return Change::Keep };
        match value.get("data") {
            Some(Value::Null) => return Change::Clear,
            Some(data) if value.as_object().is_some_and(|object| object.len() == 1) => {
                if let Some(guid) = data.get("guid").and_then(Value::as_str) {
                    return Change::Set(guid.to_owned());
                }
            }
            _ => {}
        }
        self.error(format!("{} must be structured like this: \"{key}: {{\"data\": {{\"guid\": \"valid-guid\"}}}}\"", spoken(key)));
        Change::Keep
    }

    /// A to-many relationship named `key` in this object: `{"data": [{"guid": …}, …]}`.
    #[expect(clippy::wrong_self_convention, reason = "the relationship is to one or to many")]
    pub fn to_many(&mut self, key: &'a str) -> Option<Vec<String>> {
        let value = self.value(key)?;
        match guid_list(value) {
            Some(guids) => Some(guids),
            None => {
                self.error(format!(
                    "{} must be structured like this: \"{key}: {{\"data\": [{{\"guid\": \"valid-guid\"}},{{\"guid\": \"valid-guid\"}}]}}\"",
                    spoken(key)
                ));
                None
            }
        }
    }

    fn check_unknown(&mut self) {
        let unknown: Vec<String> = self
            .object
            .keys()
            .filter(|key| !self.known.contains(key.as_str()))
            .map(|key| format!("'{key}'"))
            .collect();
        if !unknown.is_empty() {
            self.error(format!("Unknown field(s): {}", unknown.join(", ")));
        }
    }

    /// What was wrong so far, for a message whose unknown keys are told otherwise.
    pub fn into_errors(self) -> Vec<String> {
        self.errors
    }

    /// # Errors
    /// 422 with everything that was wrong, unknown keys included.
    pub fn finish(mut self) -> ApiResult<()> {
        self.check_unknown();
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::unprocessable(self.errors.join(", ")))
        }
    }
}

/// `{"data": [{"guid": …}, …]}`, the body of to-many relationship requests.
pub fn guid_list(value: &Value) -> Option<Vec<String>> {
    let items = value.get("data")?.as_array()?;
    items.iter().map(|item| Some(item.get("guid")?.as_str()?.to_owned())).collect()
}

/// # Errors
/// 422 unless the body is `{"data": [{"guid": …}, …]}`.
pub fn to_many_body(body: &Body) -> ApiResult<Vec<String>> {
    let mut fields = body.fields();
    fields.known.insert("data");
    let guids = guid_list(&Value::Object(body.0.clone()));
    if guids.is_none() {
        fields.error("Data must be an array of objects with a guid");
    }
    fields.finish()?;
    Ok(guids.unwrap_or_default())
}

/// # Errors
/// 422 unless the body is `{"data": {"guid": …}}` or `{"data": null}`.
pub fn to_one_body(body: &Body) -> ApiResult<Option<String>> {
    let mut fields = body.fields();
    let guid = match fields.raw("data") {
        Some(Value::Null) => None,
        Some(data) => match data.get("guid").and_then(Value::as_str) {
            Some(guid) => Some(guid.to_owned()),
            None => {
                fields.error("Data must be an object with a guid");
                None
            }
        },
        None => {
            fields.error("Data can't be blank");
            None
        }
    };
    fields.finish()?;
    Ok(guid)
}

/// `memory_in_mb` as it is spoken of in errors: `Memory in mb`.
fn spoken(key: &str) -> String {
    let mut text = key.replace('_', " ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(value: &Value) -> Body {
        Body(value.as_object().unwrap().clone())
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let body = body(&json!({ "name": 7, "memory_in_mb": "x", "size": 1, "instances": "3" }));
        let mut fields = body.fields();
        fields.text("name");
        fields.int("memory_in_mb", 1..=10);
        assert_eq!(fields.int("instances", 0..=10), Some(3));
        let detail = fields.finish().unwrap_err().to_string();
        assert_eq!(
            detail,
            "Name must be a string, Memory in mb is not a number, Unknown field(s): 'size'"
        );
    }

    #[test]
    fn relationships_must_be_shaped_right() {
        let good = body(&json!({ "relationships": { "space": { "data": { "guid": "g" } } } }));
        let mut fields = good.fields();
        assert_eq!(fields.relationships(["space"]), ["g"]);
        fields.finish().unwrap();
        let bad = body(&json!({ "relationships": { "space": "g" } }));
        let mut fields = bad.fields();
        fields.relationships(["space"]);
        assert!(
            fields
                .finish()
                .unwrap_err()
                .to_string()
                .starts_with("Relationships Space must be structured like this")
        );
    }
}
