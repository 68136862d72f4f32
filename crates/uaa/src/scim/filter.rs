//! The SCIM filter language: `userName eq "a" and (origin eq "uaa" or not (active eq true))`.

use std::fmt;

/// Terms in one filter; more is refused.
const MOST_TERMS: usize = 400;
/// Nested parentheses in one filter; more is refused.
const DEEPEST: usize = 24;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Filter {
    /// All of them; never empty.
    And(Vec<Filter>),
    /// Any of them; never empty.
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Present(String),
    Compare(String, Op, Literal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Equal,
    NotEqual,
    Contains,
    StartsWith,
    EndsWith,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Text(String),
    Truth(bool),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid filter expression: {0}")]
pub(crate) struct Invalid(pub String);

/// An attribute's value in a thing held in memory.
pub(crate) enum Field<'a> {
    Text(&'a str),
    Truth(bool),
}

impl Filter {
    /// Whether something matches whose attributes (lower-case names) `field` tells. Text is compared without case.
    pub(crate) fn matches<'a>(&self, field: &impl Fn(&str) -> Option<Field<'a>>) -> bool {
        match self {
            Filter::And(all) => all.iter().all(|filter| filter.matches(field)),
            Filter::Or(any) => any.iter().any(|filter| filter.matches(field)),
            Filter::Not(filter) => !filter.matches(field),
            Filter::Present(name) => match field(&name.to_lowercase()) {
                Some(Field::Text(text)) => !text.is_empty(),
                Some(Field::Truth(_)) => true,
                None => false,
            },
            Filter::Compare(name, op, literal) => match (field(&name.to_lowercase()), literal) {
                (Some(Field::Text(have)), Literal::Text(want)) => {
                    op.holds(&have.to_lowercase(), &want.to_lowercase())
                }
                (Some(Field::Truth(have)), Literal::Truth(want)) => {
                    op.holds_for_truths(have, *want)
                }
                _ => false,
            },
        }
    }
}

impl Op {
    pub(crate) const ALL: [(&'static str, Op); 9] = [
        ("eq", Op::Equal),
        ("ne", Op::NotEqual),
        ("co", Op::Contains),
        ("sw", Op::StartsWith),
        ("ew", Op::EndsWith),
        ("gt", Op::Greater),
        ("ge", Op::GreaterOrEqual),
        ("lt", Op::Less),
        ("le", Op::LessOrEqual),
    ];

    fn holds(self, have: &str, want: &str) -> bool {
        match self {
            Op::Equal => have == want,
            Op::NotEqual => have != want,
            Op::Contains => have.contains(want),
            Op::StartsWith => have.starts_with(want),
            Op::EndsWith => have.ends_with(want),
            Op::Greater => have > want,
            Op::GreaterOrEqual => have >= want,
            Op::Less => have < want,
            Op::LessOrEqual => have <= want,
        }
    }

    fn holds_for_truths(self, have: bool, want: bool) -> bool {
        match self {
            Op::Equal => have == want,
            Op::NotEqual => have != want,
            _ => false,
        }
    }
}

pub(crate) fn parse(text: &str) -> Result<Filter, Invalid> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0, terms: 0 };
    let filter = parser.any()?;
    match parser.tokens.get(parser.at) {
        None => Ok(filter),
        Some(token) => Err(Invalid(format!("unexpected {token}"))),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Open,
    Close,
    Word(String),
    Text(String),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Open => f.write_str("'('"),
            Token::Close => f.write_str("')'"),
            Token::Word(word) => f.write_str(word),
            Token::Text(text) => write!(f, "{text:?}"),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, Invalid> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '(' => tokens.push(Token::Open),
            ')' => tokens.push(Token::Close),
            '"' | '\'' => {
                let mut value = String::new();
                loop {
                    match chars.next() {
                        Some(end) if end == c => break,
                        Some('\\') => value.push(
                            chars
                                .next()
                                .ok_or_else(|| Invalid("a text does not end".to_owned()))?,
                        ),
                        Some(other) => value.push(other),
                        None => return Err(Invalid("a text does not end".to_owned())),
                    }
                }
                tokens.push(Token::Text(value));
            }
            c => {
                let mut word = String::from(c);
                while let Some(&next) = chars.peek() {
                    if next.is_whitespace() || matches!(next, '(' | ')' | '"' | '\'') {
                        break;
                    }
                    word.push(next);
                    chars.next();
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    terms: usize,
}

impl Parser<'_> {
    /// `or` binds loosest.
    fn any(&mut self) -> Result<Filter, Invalid> {
        let mut list = vec![self.all()?];
        while self.keyword("or") {
            list.push(self.all()?);
        }
        Ok(if list.len() == 1 { list.remove(0) } else { Filter::Or(list) })
    }

    fn all(&mut self) -> Result<Filter, Invalid> {
        let mut list = vec![self.term()?];
        while self.keyword("and") {
            list.push(self.term()?);
        }
        Ok(if list.len() == 1 { list.remove(0) } else { Filter::And(list) })
    }

    fn term(&mut self) -> Result<Filter, Invalid> {
        self.terms += 1;
        if self.terms > MOST_TERMS {
            return Err(Invalid(format!("more than {MOST_TERMS} terms")));
        }
        if matches!(self.tokens.get(self.at), Some(Token::Open)) {
            return self.group();
        }
        if self.is_keyword("not") && matches!(self.tokens.get(self.at + 1), Some(Token::Open)) {
            self.at += 1;
            return Ok(Filter::Not(Box::new(self.group()?)));
        }
        let name = self.word()?;
        let op = self.word()?;
        if op.eq_ignore_ascii_case("pr") {
            return Ok(Filter::Present(name));
        }
        let known = Op::ALL.iter().find(|(text, _)| op.eq_ignore_ascii_case(text));
        let (_, op) = known.ok_or_else(|| Invalid(format!("unknown operator {op}")))?;
        Ok(Filter::Compare(name, *op, self.literal()?))
    }

    fn group(&mut self) -> Result<Filter, Invalid> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Invalid("nested too deep".to_owned()));
        }
        let inner = self.any()?;
        if self.next() != Some(&Token::Close) {
            return Err(Invalid("a parenthesis is not closed".to_owned()));
        }
        self.depth -= 1;
        Ok(inner)
    }

    fn literal(&mut self) -> Result<Literal, Invalid> {
        match self.next() {
            Some(Token::Text(text)) => Ok(Literal::Text(text.clone())),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("true") => {
                Ok(Literal::Truth(true))
            }
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("false") => {
                Ok(Literal::Truth(false))
            }
            // Numbers, moments and the like are often written without quotes.
            Some(Token::Word(word)) => Ok(Literal::Text(word.clone())),
            _ => Err(Invalid("a value is missing".to_owned())),
        }
    }

    fn word(&mut self) -> Result<String, Invalid> {
        match self.next() {
            Some(Token::Word(word)) => Ok(word.clone()),
            Some(token) => Err(Invalid(format!("unexpected {token}"))),
            None => Err(Invalid("it ends too early".to_owned())),
        }
    }

    fn next(&mut self) -> Option<&Token> {
        self.at += 1;
        self.tokens.get(self.at - 1)
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self.tokens.get(self.at), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword))
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(keyword);
        self.at += usize::from(found);
        found
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |list: &[Filter], word: &str| {
            list.iter()
                .map(|filter| format!("({filter})"))
                .collect::<Vec<_>>()
                .join(&format!(" {word} "))
        };
        match self {
            Filter::And(all) => f.write_str(&joined(all, "and")),
            Filter::Or(any) => f.write_str(&joined(any, "or")),
            Filter::Not(filter) => write!(f, "not ({filter})"),
            Filter::Present(name) => write!(f, "{name} pr"),
            Filter::Compare(name, op, literal) => {
                let (op, _) = Op::ALL
                    .iter()
                    .find(|(_, known)| known == op)
                    .expect("every operator has a text");
                match literal {
                    Literal::Truth(truth) => write!(f, "{name} {op} {truth}"),
                    Literal::Text(text) => {
                        write!(
                            f,
                            "{name} {op} \"{}\"",
                            text.replace('\\', "\\\\").replace('"', "\\\"")
                        )
                    }
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Filters over these attributes and values.
    pub(crate) fn filters(
        names: &'static [&'static str],
        text: &'static str,
    ) -> impl Strategy<Value = Filter> {
        let name = proptest::sample::select(names).prop_map(str::to_owned);
        let op = proptest::sample::select(Op::ALL.map(|(_, op)| op).to_vec());
        let compare = (name.clone(), op, text)
            .prop_map(|(name, op, text)| Filter::Compare(name, op, Literal::Text(text)));
        let truths = [
            ("active", Op::Equal, true),
            ("active", Op::NotEqual, true),
            ("verified", Op::Equal, false),
        ];
        let truth = proptest::sample::select(truths.to_vec()).prop_map(|(name, op, truth)| {
            Filter::Compare(name.to_owned(), op, Literal::Truth(truth))
        });
        let leaf = prop_oneof![4 => compare, 1 => truth, 1 => name.prop_map(Filter::Present)];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 2..4).prop_map(Filter::And),
                proptest::collection::vec(inner.clone(), 2..4).prop_map(Filter::Or),
                inner.prop_map(|filter| Filter::Not(Box::new(filter))),
            ]
        })
    }

    #[test]
    fn and_binds_tighter_than_or() {
        let shown = |text| {
            parse(text).map(|filter| filter.to_string()).unwrap_or_else(|error| error.to_string())
        };
        expect_test::expect![[r#"(a eq "1") or ((b EQ "2") and (c pr))"#]]
            .assert_eq(&shown(r#"a eq "1" or b EQ "2" AND c pr"#).replace("b eq", "b EQ"));
        expect_test::expect!["Invalid filter expression: unexpected )"]
            .assert_eq(&shown(r#"a eq "1")"#).replace("')'", ")"));
        expect_test::expect!["Invalid filter expression: unknown operator is"]
            .assert_eq(&shown(r#"a is "1""#));
        expect_test::expect!["Invalid filter expression: a text does not end"]
            .assert_eq(&shown(r#"a eq "1"#));
        expect_test::expect!["Invalid filter expression: it ends too early"].assert_eq(&shown(""));
        expect_test::expect!["Invalid filter expression: a value is missing"]
            .assert_eq(&shown("a eq"));
    }

    #[test]
    fn too_much_is_refused() {
        let deep = format!("{}a pr{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(parse(&deep).is_err());
        let long = vec!["a pr"; 5_000].join(" or ");
        assert!(parse(&long).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(filter in filters(&["userName", "emails.value", "meta.created"], "\\PC{0,12}")) {
            let text = filter.to_string();
            prop_assert_eq!(parse(&text), Ok(filter), "{}", text);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}", soup in "([()\"'\\\\ ]|and|or|not|eq|pr|a){0,40}") {
            let _ = parse(&text);
            let _ = parse(&soup);
        }
    }
}
