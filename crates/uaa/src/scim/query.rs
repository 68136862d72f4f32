//! A list request made into SQL: filter, order and page.

use base::Timestamp;
use sql::Connection;
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use super::filter::{Filter, Invalid, Literal, Op, parse};

/// What a page holds when nobody says, and at most.
const PAGE: i64 = 100;
const MOST: i64 = 500;

/// How an attribute is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Column {
    Text(&'static str),
    /// Already in lower case.
    Key(&'static str),
    /// Compared as it is written.
    Exact(&'static str),
    Truth(&'static str),
    Moment(&'static str),
}

/// The columns that a list can be filtered and ordered by; attribute names are given in lower case.
pub(crate) type Columns = fn(&str) -> Option<Column>;

#[derive(Clone, Debug)]
enum Param {
    Text(String),
    Number(i64),
}

/// What to find, in which order, and which page of it.
#[derive(Debug)]
pub(crate) struct Search {
    condition: String,
    params: Vec<Param>,
    order: String,
    pub start: i64,
    pub count: i64,
}

/// The query parameters that all lists share.
#[derive(Debug, Default, serde::Deserialize)]
pub(crate) struct ListQuery {
    pub filter: Option<String>,
    pub attributes: Option<String>,
    #[serde(rename = "sortBy")]
    pub sort_by: Option<String>,
    #[serde(rename = "sortOrder")]
    pub sort_order: Option<String>,
    #[serde(rename = "startIndex")]
    pub start_index: Option<i64>,
    pub count: Option<i64>,
    #[serde(rename = "includeInactive")]
    pub include_inactive: Option<bool>,
}

impl ListQuery {
    pub(crate) fn start(&self) -> i64 {
        self.start_index.unwrap_or(1).max(1)
    }

    pub(crate) fn count(&self) -> i64 {
        self.count.unwrap_or(PAGE).clamp(0, MOST)
    }

    pub(crate) fn descends(&self) -> bool {
        self.sort_order.as_deref().is_some_and(|order| order.eq_ignore_ascii_case("descending"))
    }

    pub(crate) fn filter(&self) -> Result<Option<Filter>, Invalid> {
        self.filter.as_deref().filter(|text| !text.trim().is_empty()).map(parse).transpose()
    }
}

impl Search {
    pub(crate) fn new(query: &ListQuery, columns: Columns) -> Result<Search, Invalid> {
        let mut params = Vec::new();
        let condition = match query.filter()? {
            Some(filter) => condition(&filter, columns, &mut params)?,
            None => "1 = 1".to_owned(),
        };
        let sort = query.sort_by.as_deref().unwrap_or("meta.created").to_lowercase();
        let column = columns(&sort).ok_or_else(|| Invalid(format!("cannot sort by {sort}")))?;
        let direction = if query.descends() { "DESC" } else { "ASC" };
        let order = format!("{} {direction}, guid {direction}", column.name());
        Ok(Search { condition, params, order, start: query.start(), count: query.count() })
    }

    /// Narrows it down further; `condition` has no parameters.
    pub(crate) fn and(mut self, condition: &str) -> Search {
        self.condition = format!("({}) AND {condition}", self.condition);
        self
    }

    pub(crate) async fn rows(
        &self,
        connection: &mut Connection,
        columns: &str,
        table: &str,
    ) -> sqlx::Result<Vec<AnyRow>> {
        let Search { condition, order, start, count, .. } = self;
        let skip = start - 1;
        let text = format!(
            "SELECT {columns} FROM {table} WHERE {condition} ORDER BY {order} LIMIT {count} OFFSET {skip}"
        );
        let query =
            self.params.iter().fold(sqlx::query(AssertSqlSafe(text)), |query, param| match param {
                Param::Text(text) => query.bind(text.clone()),
                Param::Number(number) => query.bind(*number),
            });
        query.fetch_all(connection).await
    }

    pub(crate) async fn total(
        &self,
        connection: &mut Connection,
        table: &str,
    ) -> sqlx::Result<i64> {
        let text = format!("SELECT COUNT(*) FROM {table} WHERE {}", self.condition);
        let query =
            self.params.iter().fold(sqlx::query_scalar(AssertSqlSafe(text)), |query, param| {
                match param {
                    Param::Text(text) => query.bind(text.clone()),
                    Param::Number(number) => query.bind(*number),
                }
            });
        query.fetch_one(connection).await
    }
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Column::Text(name)
            | Column::Key(name)
            | Column::Exact(name)
            | Column::Truth(name)
            | Column::Moment(name) => name,
        }
    }
}

fn condition(
    filter: &Filter,
    columns: Columns,
    params: &mut Vec<Param>,
) -> Result<String, Invalid> {
    let mut joined = |list: &[Filter], word: &str| {
        let parts: Result<Vec<_>, _> =
            list.iter().map(|filter| condition(filter, columns, params)).collect();
        Ok(format!("({})", parts?.join(word)))
    };
    match filter {
        Filter::And(all) => joined(all, " AND "),
        Filter::Or(any) => joined(any, " OR "),
        Filter::Not(filter) => Ok(format!("NOT ({})", condition(filter, columns, params)?)),
        Filter::Present(name) => Ok(match column(name, columns)? {
            Column::Text(name) | Column::Key(name) | Column::Exact(name) => format!("{name} <> ''"),
            Column::Truth(_) => "1 = 1".to_owned(),
            Column::Moment(name) => format!("{name} <> 0"),
        }),
        Filter::Compare(name, op, literal) => match (column(name, columns)?, literal) {
            (Column::Text(name), Literal::Text(text)) => {
                Ok(texts(&format!("LOWER({name})"), *op, text.to_lowercase(), params))
            }
            (Column::Key(name), Literal::Text(text)) => {
                Ok(texts(name, *op, text.to_lowercase(), params))
            }
            (Column::Exact(name), Literal::Text(text)) => {
                Ok(texts(name, *op, text.clone(), params))
            }
            (Column::Truth(name), Literal::Truth(truth)) => truths(name, *op, *truth),
            (Column::Moment(name), Literal::Text(text)) => moments(name, *op, text, params),
            _ => Err(Invalid(format!("{name} has values of another type"))),
        },
    }
}

fn column(name: &str, columns: Columns) -> Result<Column, Invalid> {
    columns(&name.to_lowercase()).ok_or_else(|| Invalid(format!("unknown attribute {name}")))
}

fn texts(left: &str, op: Op, text: String, params: &mut Vec<Param>) -> String {
    let like = |pattern: String, params: &mut Vec<Param>| {
        params.push(Param::Text(pattern));
        format!("{left} LIKE ${} ESCAPE '!'", params.len())
    };
    let literal = || text.replace('!', "!!").replace('%', "!%").replace('_', "!_");
    match (op, symbol(op)) {
        (Op::Contains, _) => like(format!("%{}%", literal()), params),
        (Op::StartsWith, _) => like(format!("{}%", literal()), params),
        (Op::EndsWith, _) => like(format!("%{}", literal()), params),
        (_, symbol) => {
            params.push(Param::Text(text));
            format!("{left} {symbol} ${}", params.len())
        }
    }
}

fn truths(name: &str, op: Op, truth: bool) -> Result<String, Invalid> {
    match op {
        Op::Equal | Op::NotEqual => Ok(format!("{name} {} {}", symbol(op), i64::from(truth))),
        _ => Err(Invalid("true and false are only compared with eq and ne".to_owned())),
    }
}

fn moments(name: &str, op: Op, text: &str, params: &mut Vec<Param>) -> Result<String, Invalid> {
    let moment =
        Timestamp::parse_rfc3339(text).ok_or_else(|| Invalid(format!("{text} is not a moment")))?;
    if matches!(op, Op::Contains | Op::StartsWith | Op::EndsWith) {
        return Err(Invalid("moments are only compared by their order".to_owned()));
    }
    params.push(Param::Number(moment.as_nanos()));
    Ok(format!("{name} {} ${}", symbol(op), params.len()))
}

fn symbol(op: Op) -> &'static str {
    match op {
        Op::NotEqual => "<>",
        Op::Greater => ">",
        Op::GreaterOrEqual => ">=",
        Op::Less => "<",
        Op::LessOrEqual => "<=",
        Op::Equal | Op::Contains | Op::StartsWith | Op::EndsWith => "=",
    }
}

#[cfg(test)]
mod tests {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    use proptest::test_runner::TestRunner;

    use super::*;
    use crate::db;
    use crate::db::users::Account;
    use crate::scim::filter::{Field, tests::filters};
    use crate::scim::user::{Entry, Message, Name, columns};

    const NAMES: &[&str] = &["userName", "externalId", "emails.value", "name.familyName"];

    fn account(n: usize) -> Account {
        let pick = |list: [&str; 4], by: usize| Some(list[n / by % 4].to_owned());
        let message = Message {
            user_name: Some(format!("{}{n}", ["a", "A_b", "Ab", "ba"][n % 4])),
            external_id: pick(["", "a_b", "aXb", "B"], 2),
            name: Some(Name { family_name: pick(["", "ab", "BA", "a"], 3), given_name: None }),
            emails: Some(vec![Entry { value: pick(["a", "AB", "b_", "ba"], 5), primary: true }]),
            active: Some(n.is_multiple_of(3)),
            verified: Some(n.is_multiple_of(2)),
            ..Message::default()
        };
        message.create("!".to_owned(), Timestamp::from_secs(i64::try_from(n).unwrap())).unwrap()
    }

    fn matches(filter: &Filter, account: &Account) -> bool {
        filter.matches(&|name| {
            Some(match name {
                "username" => Field::Text(&account.user_name),
                "externalid" => Field::Text(&account.external_id),
                "emails.value" => Field::Text(&account.email),
                "name.familyname" => Field::Text(&account.family_name),
                "active" => Field::Truth(account.active),
                "verified" => Field::Truth(account.verified),
                _ => return None,
            })
        })
    }

    #[tokio::test]
    async fn a_filter_means_the_same_in_sql_and_in_memory() {
        let accounts: Vec<Account> = (0..24).map(account).collect();
        for database in sql::testing::databases().await {
            database.migrate("uaa", db::MIGRATIONS).await.unwrap();
            let mut tx = database.begin().await.unwrap();
            for account in &accounts {
                db::users::insert(&mut tx, account).await.unwrap();
            }
            tx.commit().await.unwrap();
            let (mut runner, strategy) =
                (TestRunner::deterministic(), filters(NAMES, "[abAB_%!]{0,3}"));
            for _ in 0..300 {
                let filter = strategy.new_tree(&mut runner).unwrap().current();
                let query = ListQuery { filter: Some(filter.to_string()), ..ListQuery::default() };
                let search = Search::new(&query, columns).unwrap();
                let (found, total) =
                    db::users::search(&mut database.read().await.unwrap(), &search).await.unwrap();
                let found: Vec<&String> = found.iter().map(|account| &account.user_name).collect();
                let want: Vec<&String> = accounts
                    .iter()
                    .filter(|account| matches(&filter, account))
                    .map(|account| &account.user_name)
                    .collect();
                assert_eq!(found, want, "{filter} on {:?}", database.engine());
                assert_eq!(usize::try_from(total).unwrap(), want.len());
            }
        }
    }
}
