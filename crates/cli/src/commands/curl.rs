//! `cf curl`: any request to the API, with the session's token.

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::client::Answer;
use crate::command::{Command, Context, Spec};
use crate::error::{Error, Result, failed, unopened};
use crate::ui::say;

/// `cf curl`
#[derive(clap::Args)]
pub struct Curl {
    #[arg(value_name = "PATH")]
    path: String,
    /// A header of the request; may be given several times
    #[arg(short = 'H')]
    headers: Vec<String>,
    /// HTTP method (GET,POST,PUT,DELETE,etc)
    #[arg(short = 'X')]
    method: Option<String>,
    /// The request's body, or '@' and the name of a file that holds it
    #[arg(short = 'd', allow_hyphen_values = true)]
    data: Option<String>,
    /// Server errors return exit code 22
    #[arg(long, short = 'f')]
    fail: bool,
    /// Include response headers in the output
    #[arg(short = 'i')]
    include: bool,
    /// Write the body to FILE instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<String>,
}

impl Command for Curl {
    const SPEC: &'static Spec = &Spec {
        name: "curl",
        about: "Executes a request to the targeted API endpoint",
        usage: "{cf} curl PATH [-iv] [-X METHOD] [-H HEADER]... [-d DATA] [--output FILE]\n\nWithout -d the request is a GET; with it, a POST of application/json.\n-H and -X say otherwise.",
        examples: "{cf} curl \"/v3/apps\" -X GET\n{cf} curl \"/v3/apps\" -X POST -d @/path/to/file",
        see_also: &["oauth-token"],
        ..Spec::NONE
    };

    async fn run(self, cx: &mut Context<'_>) -> Result<()> {
        if cx.config().target.is_empty() {
            let cf = cx.cf();
            return failed(format!(
                "No API endpoint set. Use '{cf} login' or '{cf} api' to target an endpoint."
            ));
        }
        let body = match self.data.as_deref().map(|data| (data, data.strip_prefix('@'))) {
            None => Vec::new(),
            Some((_, Some(file))) => {
                let path = cx.ui.io.dir.join(file.trim_matches('"'));
                std::fs::read(&path).map_err(|error| {
                    Error::Failed(format!("reading {}: {error}", path.display()))
                })?
            }
            Some((text, None)) => text.as_bytes().to_vec(),
        };
        let default = if body.is_empty() { "GET" } else { "POST" };
        let method = self.method.as_deref().unwrap_or(default).to_uppercase();
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| {
            Error::Failed(format!("Error creating request: '{method}' is no method"))
        })?;
        let (answer, body) =
            cx.client.raw(method, &self.path, headers(&self.headers)?, body).await?;
        if self.fail && answer.status().as_u16() >= 400 {
            return Err(Error::CurlStatus(answer.status().as_u16()));
        }
        let mut out = if self.include { head(&answer).into_bytes() } else { Vec::new() };
        out.extend(&body);
        if let Some(file) = &self.output {
            let path = cx.ui.io.dir.join(file);
            std::fs::write(&path, &out).map_err(|error| {
                Error::Failed(format!("Error creating file: {}", unopened(&path, &error)))
            })?;
            cx.ui.ok();
            return Ok(());
        }
        match std::str::from_utf8(&out) {
            Ok(text) if !text.contains('\0') => say!(cx.ui, "{text}"),
            _ => cx.ui.bytes(&out),
        }
        Ok(())
    }
}

fn headers(texts: &[String]) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for text in texts {
        let wrong = || {
            Error::Failed(format!("Error creating request: header '{text}' is not 'Name: value'"))
        };
        let (name, value) = text.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        headers.append(name, HeaderValue::from_str(value.trim()).map_err(|_| wrong())?);
    }
    Ok(headers)
}

fn head(answer: &Answer) -> String {
    let mut text = format!("{:?} {}\r\n", answer.version, answer.status());
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        let name: Vec<String> = name.as_str().split('-').map(capital).collect();
        format!("{}: {}\r\n", name.join("-"), value.to_str().unwrap_or_default())
    };
    let mut lines: Vec<String> = answer.headers().iter().map(line).collect();
    lines.sort();
    text += &lines.concat();
    text + "\r\n"
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_a_name_and_a_value() {
        let found =
            headers(&["Content-Type: text/plain".to_owned(), "X-A:b:c".to_owned()]).unwrap();
        assert_eq!(found["content-type"], "text/plain");
        assert_eq!(found["x-a"], "b:c");
        assert!(headers(&["nonsense".to_owned()]).is_err());
        assert_eq!(capital("etag"), "Etag");
    }
}
