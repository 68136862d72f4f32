//! What every list understands: pages, order, filters, label selectors, moments, include; and the one query it makes.

mod selector;

use std::collections::BTreeMap;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use base::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use sql::Connection;
use url::form_urlencoded;

use crate::Cc;
use crate::db::{Arg, Columns as _, Row, Sql};
use crate::errors::{ApiError, ApiResult};
use crate::urls::Urls;

const MOST_PER_PAGE: i64 = 5000;
const PER_PAGE: i64 = 50;

/// The query string as it came, and the path for the links to other pages.
#[derive(Clone, Debug, Default)]
pub struct Params {
    pub path: String,
    pairs: Vec<(String, String)>,
}

impl Params {
    pub fn new(path: &str, query: &str) -> Params {
        let pairs = form_urlencoded::parse(query.as_bytes())
            .map(|(k, v)| (k.into_owned(), v.into_owned()))
            .collect();
        Params { path: path.to_owned(), pairs }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The comma list under `name`; a comma inside a value came percent-encoded once more.
    pub fn list(&self, name: &str) -> Option<Vec<String>> {
        self.get(name).map(items)
    }

    /// Names of the form `fields[...]`, with what stands in the brackets and the list.
    pub fn fields(&self) -> Vec<(String, Vec<String>)> {
        let inside = |key: &str| {
            key.strip_prefix("fields[").and_then(|rest| rest.strip_suffix(']')).map(str::to_owned)
        };
        self.pairs.iter().filter_map(|(key, value)| Some((inside(key)?, items(value)))).collect()
    }

    /// # Errors
    /// 10005 that names what is unknown and what there is.
    pub fn only(&self, valid: &[&str]) -> ApiResult<()> {
        let fits = |key: &str| {
            let bare = key.split_once('[').map_or(key, |(bare, _)| bare);
            valid.contains(&key) || (bare != key && valid.contains(&bare))
        };
        let unknown: Vec<&str> =
            self.pairs.iter().map(|(key, _)| key.as_str()).filter(|key| !fits(key)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let quoted = |names: &[&str]| {
            names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
        };
        let detail = format!(
            "Unknown query parameter(s): {}. Valid parameters are: {}",
            quoted(&unknown),
            quoted(valid)
        );
        Err(ApiError::bad_query(&detail))
    }

    /// The values of `include`, checked against `valid`.
    pub fn includes(&self, valid: &[&str]) -> ApiResult<Vec<String>> {
        let wanted = self.list("include").unwrap_or_default();
        let repeated =
            (1..wanted.len()).find(|&at| wanted[..at].contains(&wanted[at])).map(|at| &wanted[at]);
        if let Some(twice) = repeated {
            return Err(ApiError::bad_query(&format!("Duplicate included resource: '{twice}'")));
        }
        if let Some(unknown) = wanted.iter().find(|name| !valid.contains(&name.as_str())) {
            let valid = valid.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
            let detail = format!(
                "Invalid included resource: '{unknown}'. Valid included resources are: {valid}"
            );
            return Err(ApiError::bad_query(&detail));
        }
        Ok(wanted)
    }
}

/// A null byte, which no column can hold, becomes the mark for what is no character.
fn items(value: &str) -> Vec<String> {
    let decode = |item| percent_decode_str(item).decode_utf8_lossy().replace('\0', "\u{FFFD}");
    value.split(',').map(decode).collect()
}

impl FromRequestParts<Cc> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Cc) -> ApiResult<Params> {
        Ok(Params::new(parts.uri.path(), parts.uri.query().unwrap_or_default()))
    }
}

/// How a filter becomes a condition.
#[derive(Clone, Copy, Debug)]
pub enum Filter {
    /// This column is one of the values.
    Text(&'static str),
    /// This column, which holds lower case, is one of the values in whatever case.
    Lower(&'static str),
    /// This column is one of the numbers.
    Int(&'static str),
    /// This column is the truth (`true` or `false`).
    Flag(&'static str),
    /// A condition of its own, with `{}` where the values' placeholders go.
    Sql(&'static str),
    /// The handler reads it itself.
    Own,
}

/// What one list understands beyond what all do.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// The table (or its alias) whose `id`, `guid`, `created_at`, `updated_at` are meant.
    pub table: &'static str,
    pub filters: &'static [(&'static str, Filter)],
    /// Names for `order_by` besides `created_at` and `updated_at`, with their columns.
    pub orders: &'static [(&'static str, &'static str)],
    pub includes: &'static [&'static str],
    /// The resource type whose labels `label_selector` reads.
    pub labels: Option<&'static str>,
}

/// A list request understood: conditions so far, page and order. Handlers add conditions, then [`Listing::fetch`].
#[derive(Clone, Debug)]
pub struct Listing {
    pub params: Params,
    pub includes: Vec<String>,
    sql: Sql,
    conditions: Vec<String>,
    order: String,
    page: i64,
    per_page: i64,
}

/// One page of rows, and how many rows there are in all.
#[derive(Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub total: i64,
}

impl List {
    /// # Errors
    /// 10005 for anything that is not understood.
    pub fn read(&self, params: Params) -> ApiResult<Listing> {
        let mut valid = vec!["page", "per_page", "order_by", "guids", "created_ats", "updated_ats"];
        valid.extend(self.filters.iter().map(|(name, _)| *name));
        if !self.includes.is_empty() {
            valid.push("include");
        }
        if self.labels.is_some() {
            valid.push("label_selector");
        }
        params.only(&valid)?;
        let mut listing = Listing {
            includes: params.includes(self.includes)?,
            page: number(&params, "page", 1, 1, i64::MAX / MOST_PER_PAGE)?,
            per_page: number(&params, "per_page", PER_PAGE, 1, MOST_PER_PAGE)?,
            order: self.order(params.get("order_by"))?,
            sql: Sql::default(),
            conditions: Vec::new(),
            params,
        };
        listing.filter(&format!("{}.guid IN ({{}})", self.table), "guids")?;
        for (name, filter) in self.filters {
            match filter {
                Filter::Text(column) => listing.filter(&format!("{column} IN ({{}})"), name)?,
                Filter::Lower(column) => listing.filter_lower(column, name),
                Filter::Sql(condition) => listing.filter(condition, name)?,
                Filter::Int(column) => listing.filter_numbers(column, name)?,
                Filter::Flag(column) => listing.filter_flag(column, name)?,
                Filter::Own => {}
            }
        }
        for column in ["created_at", "updated_at"] {
            listing.filter_moments(&format!("{}.{column}", self.table), &format!("{column}s"))?;
        }
        if let (Some(kind), Some(text)) = (self.labels, listing.params.get("label_selector")) {
            let requirements =
                selector::parse(text).map_err(|detail| ApiError::bad_query(&detail))?;
            for requirement in requirements {
                let condition = requirement.condition(&mut listing.sql, kind, self.table);
                listing.conditions.push(condition);
            }
        }
        Ok(listing)
    }

    fn order(&self, wanted: Option<&str>) -> ApiResult<String> {
        let Some(wanted) = wanted else { return Ok(format!("{}.id", self.table)) };
        let (name, direction) = match wanted.strip_prefix('-') {
            Some(name) => (name, "DESC"),
            // A plus in a query string reads as a space.
            None => (wanted.trim_start_matches(['+', ' ']), "ASC"),
        };
        let column = match name {
            "created_at" | "updated_at" => format!("{}.{name}", self.table),
            _ => match self.orders.iter().find(|(own, _)| *own == name) {
                Some((_, column)) => (*column).to_owned(),
                None => {
                    let names = self
                        .orders
                        .iter()
                        .map(|(name, _)| *name)
                        .chain(["created_at", "updated_at"]);
                    let names =
                        names.map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
                    return Err(ApiError::bad_query(&format!("Order by can only be: {names}")));
                }
            },
        };
        Ok(format!("{column} {direction}, {}.id {direction}", self.table))
    }
}

fn number(params: &Params, name: &str, default: i64, least: i64, most: i64) -> ApiResult<i64> {
    let Some(text) = params.get(name) else { return Ok(default) };
    match text.parse::<i64>() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        Ok(_) if name == "per_page" => {
            Err(ApiError::bad_query(&format!("Per page must be between {least} and {most}")))
        }
        _ => {
            let spoken = if name == "page" { "Page" } else { "Per page" };
            Err(ApiError::bad_query(&format!("{spoken} must be a positive integer")))
        }
    }
}

impl Listing {
    /// The statement's values; take placeholders from here for conditions of your own.
    pub fn sql(&mut self) -> &mut Sql {
        &mut self.sql
    }

    pub fn condition(&mut self, condition: impl Into<String>) {
        self.conditions.push(condition.into());
    }

    /// For [`crate::db::access::visible_space`] and its like: `None` adds nothing.
    pub fn visible(&mut self, condition: impl FnOnce(&mut Sql) -> Option<String>) {
        let condition = condition(&mut self.sql);
        self.conditions.extend(condition);
    }

    /// Another order than that of creation, where a client named none.
    pub fn order_by(&mut self, order: &str) {
        order.clone_into(&mut self.order);
    }

    /// `column = value`.
    pub fn equals(&mut self, column: &str, value: impl Into<Arg>) {
        let value = self.sql.arg(value);
        self.conditions.push(format!("{column} = {value}"));
    }

    fn filter(&mut self, condition: &str, name: &str) -> ApiResult<()> {
        if let Some(values) = self.params.list(name) {
            let list = self.sql.list(values);
            self.conditions.push(condition.replace("{}", &list));
        }
        Ok(())
    }

    fn filter_lower(&mut self, column: &str, name: &str) {
        if let Some(values) = self.params.list(name) {
            let list = self.sql.list(values.into_iter().map(|value| value.to_lowercase()));
            self.conditions.push(format!("{column} IN ({list})"));
        }
    }

    fn filter_numbers(&mut self, column: &str, name: &str) -> ApiResult<()> {
        let Some(values) = self.params.list(name) else { return Ok(()) };
        let numbers: Result<Vec<i64>, _> =
            values.iter().map(|value| value.parse::<i64>()).collect();
        let numbers = numbers.map_err(|_| {
            ApiError::bad_query(&format!("{} must be a list of integers", spoken(name)))
        })?;
        let list = self.sql.list(numbers);
        self.conditions.push(format!("{column} IN ({list})"));
        Ok(())
    }

    fn filter_flag(&mut self, column: &str, name: &str) -> ApiResult<()> {
        let value = match self.params.get(name) {
            None => return Ok(()),
            Some("true") => true,
            Some("false") => false,
            Some(_) => {
                return Err(ApiError::bad_query(&format!(
                    "{} must be 'true' or 'false'",
                    spoken(name)
                )));
            }
        };
        self.equals(column, value);
        Ok(())
    }

    /// Moments are kept to the nanosecond and spoken of in whole seconds: `=T` means within that second.
    fn filter_moments(&mut self, column: &str, name: &str) -> ApiResult<()> {
        const SECOND: std::time::Duration = std::time::Duration::from_secs(1);
        let wrong = || {
            let detail = format!(
                "{} has an invalid timestamp format. Timestamps should be formatted as 'YYYY-MM-DDThh:mm:ssZ'",
                spoken(name)
            );
            ApiError::bad_query(&detail)
        };
        if let Some(values) = self.params.list(name) {
            let mut any = Vec::new();
            for value in values {
                let moment = Timestamp::parse_rfc3339(&value).ok_or_else(wrong)?;
                let (from, to) = (self.sql.arg(moment), self.sql.arg(moment + SECOND));
                any.push(format!("({column} >= {from} AND {column} < {to})"));
            }
            self.conditions.push(format!("({})", any.join(" OR ")));
        }
        for (operator, comparison, shift) in
            [("lt", "<", false), ("lte", "<", true), ("gt", ">=", true), ("gte", ">=", false)]
        {
            let Some(value) = self.params.get(&format!("{name}[{operator}]")) else { continue };
            let moment = Timestamp::parse_rfc3339(value).ok_or_else(wrong)?;
            let limit = self.sql.arg(if shift { moment + SECOND } else { moment });
            self.conditions.push(format!("{column} {comparison} {limit}"));
        }
        Ok(())
    }

    /// Runs the one query. `columns` and `from` are SQL: `fetch(connection, "apps.*", "apps")`.
    pub async fn fetch(
        &self,
        connection: &mut Connection,
        columns: &str,
        from: &str,
    ) -> ApiResult<Page<Row>> {
        let condition = if self.conditions.is_empty() {
            "1 = 1".to_owned()
        } else {
            self.conditions.join(" AND ")
        };
        let count = format!("SELECT COUNT(*) AS total_results FROM {from} WHERE {condition}");
        let (limit, offset) = (self.per_page, (self.page - 1) * self.per_page);
        let mut sql = self.sql.clone();
        sql.push(&format!(
            "SELECT {columns}, ({count}) AS total_results FROM {from} WHERE {condition} ORDER BY {} LIMIT {limit} OFFSET {offset}",
            self.order
        ));
        let items = sql.all(connection).await?;
        let total = match items.first() {
            Some(row) => row.int("total_results")?,
            None if self.page == 1 => 0,
            None => {
                let mut sql = self.sql.clone();
                sql.push(&count);
                sql.one(connection).await?.int("total_results")?
            }
        };
        Ok(Page { items, total })
    }

    /// The document a list answers with. `included` is left out when nothing was asked for.
    pub fn present(
        &self,
        urls: &Urls,
        total: i64,
        resources: Vec<Value>,
        included: BTreeMap<&str, Vec<Value>>,
    ) -> Value {
        let pages = ((total + self.per_page - 1) / self.per_page).max(1);
        let link = |page: i64| json!({ "href": self.link(urls, page) });
        let next = if self.page < pages { link(self.page + 1) } else { Value::Null };
        let previous = if self.page > 1 { link(self.page - 1) } else { Value::Null };
        let mut document = Map::new();
        let pagination = json!({
            "total_results": total, "total_pages": pages,
            "first": link(1), "last": link(pages), "next": next, "previous": previous,
        });
        document.insert("pagination".to_owned(), pagination);
        document.insert("resources".to_owned(), Value::Array(resources));
        if !self.includes.is_empty() || !included.is_empty() {
            document.insert("included".to_owned(), json!(included));
        }
        Value::Object(document)
    }

    fn link(&self, urls: &Urls, page: i64) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, value) in
            self.params.pairs.iter().filter(|(key, _)| key != "page" && key != "per_page")
        {
            query.append_pair(key, value);
        }
        query
            .append_pair("page", &page.to_string())
            .append_pair("per_page", &self.per_page.to_string());
        format!("{}{}?{}", urls.base(), self.params.path, query.finish())
    }
}

/// `app_guids` as it is spoken of in errors: `App guids`.
fn spoken(name: &str) -> String {
    let mut text = name.replace('_', " ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: List = List {
        table: "apps",
        filters: &[("names", Filter::Text("apps.name"))],
        orders: &[("name", "apps.name")],
        includes: &["space"],
        labels: Some("app"),
    };

    fn read(query: &str) -> Result<Listing, String> {
        LIST.read(Params::new("/v3/apps", query)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let error = read("nmaes=a").unwrap_err();
        assert!(
            error.contains("Unknown query parameter(s): 'nmaes'. Valid parameters are: 'page'"),
            "{error}"
        );
        assert!(read("per_page=5001").unwrap_err().contains("Per page must be between 1 and 5000"));
        assert!(read("order_by=size").unwrap_err().contains("'name', 'created_at', 'updated_at'"));
        assert!(
            read("include=space,space")
                .unwrap_err()
                .contains("Duplicate included resource: 'space'")
        );
        assert!(
            read("created_ats[lt]=yesterday")
                .unwrap_err()
                .contains("Created ats has an invalid timestamp")
        );
    }

    #[test]
    fn a_comma_in_a_value_is_encoded_twice() {
        let params = Params::new("/v3/apps", "names=a%252Cb,c");
        assert_eq!(params.list("names").unwrap(), ["a,b", "c"]);
    }

    #[test]
    fn links_repeat_the_filters() {
        let listing = read("names=a%252Cb&per_page=2&page=2").unwrap();
        let document = listing.present(&Urls::new("https://api.x"), 5, vec![], BTreeMap::new());
        assert_eq!(
            document["pagination"]["next"]["href"],
            "https://api.x/v3/apps?names=a%252Cb&page=3&per_page=2"
        );
        assert_eq!(document["pagination"]["total_pages"], 3);
    }
}
