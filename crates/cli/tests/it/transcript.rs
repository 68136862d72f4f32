//! Conversations, written as a person would see them in a terminal.

use expect_test::Expect;

use crate::script::{Answer, Asked, World};

impl World {
    /// Plays a conversation, and compares all that comes of it.
    ///
    /// - `$ cf COMMAND <<< TYPED` is a command line; single quotes hold an argument with spaces together.
    /// - `< METHOD PATH STATUS BODY` is what the server answers from then on: an object, the items of a list, or the
    ///   detail of a refusal.
    ///
    /// After a command comes what it prints, then `!` before what went to standard error, `>` before each change that
    /// it asked for, `=` before its exit code when that is not 0.
    pub async fn transcript(&self, want: Expect) {
        let mut told = String::new();
        let mut begun = true;
        for line in want.data().lines().map(str::trim) {
            let (answer, command) = (line.strip_prefix("< "), line.strip_prefix("$ cf "));
            if answer.is_none() && command.is_none() {
                continue;
            }
            if !begun {
                told.push('\n');
            }
            told += &format!("{line}\n");
            begun = command.is_none();
            if let Some(answer) = answer {
                self.answers(answer);
            }
            if let Some(command) = command {
                told += &self.outcome(command).await;
            }
        }
        want.assert_eq(&told);
    }

    fn answers(&self, line: &str) {
        let parts: Vec<&str> = line.splitn(4, ' ').collect();
        let (call, status) = (parts[..2].join(" "), parts[2].parse().unwrap());
        let body = parts.get(3).copied().unwrap_or("null");
        let answer = match serde_json::from_str(body) {
            Ok(list @ serde_json::Value::Array(_)) => Answer::list(list),
            Ok(body) => Answer::status(status, body),
            Err(_) => Answer::refusal(status, "CF-UnprocessableEntity", body),
        };
        self.replace(&call, answer);
    }

    async fn outcome(&self, line: &str) -> String {
        self.forget();
        let (line, typed) = match line.split_once("<<<") {
            Some((line, typed)) => (line, typed.trim().replace("\\n", "\n") + "\n"),
            None => (line, String::new()),
        };
        let args = words(line);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ran = self.cf_with(&args, &typed).await;
        let mut lines = vec![page_by_name(&ran.out).trim().to_owned()];
        lines.extend(ran.err.trim_end().lines().map(|line| format!("! {line}")));
        lines.extend(self.asked_where(Asked::is_change).iter().map(shown));
        if ran.code != 0 {
            lines.push(format!("= {}", ran.code));
        }
        let text = lines.join("\n");
        let lines = text.trim_start().lines().map(str::trim_end);
        lines.map(|line| format!("{line}\n")).collect()
    }
}

/// A line's words; what is in single quotes stays together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// A page of help is known by its first line.
fn page_by_name(out: &str) -> String {
    match out.split_once("NAME:\n") {
        Some((before, page)) => {
            format!("{before}(help: {})", page.lines().next().unwrap_or_default().trim())
        }
        None => out.to_owned(),
    }
}

/// A change as asked for, its body on one line; forms are only counted.
fn shown(asked: &Asked) -> String {
    let query = if asked.query.is_empty() { String::new() } else { format!("?{}", asked.query) };
    let body = match serde_json::from_slice::<serde_json::Value>(&asked.body) {
        Ok(json) => json.to_string(),
        Err(_) if asked.body.is_empty() => String::new(),
        Err(_) => "(a form)".to_owned(),
    };
    format!("> {}{query} {body}", asked.call)
}
