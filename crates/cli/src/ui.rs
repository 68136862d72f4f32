//! What a command says and asks: streams, colours, prompts, and the warnings the API sends along.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base::Clock;

use crate::error::{Error, Result};

/// Which of the three streams a person is looking at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// The world of one run: streams, environment, directory, clock, and the name the program answers to.
pub struct Io {
    pub stdin: Box<dyn BufRead + Send>,
    pub stdout: Box<dyn Write + Send>,
    pub stderr: Box<dyn Write + Send>,
    pub terminal: Terminal,
    pub env: BTreeMap<String, String>,
    pub dir: PathBuf,
    pub clock: Clock,
    /// As it stands in tips: `cf`, or `cupola cf`.
    pub program: String,
}

impl Io {
    /// The process's own streams, environment and directory.
    pub fn system() -> Io {
        Io {
            stdin: Box::new(io::BufReader::new(io::stdin())),
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
            terminal: Terminal {
                stdin: io::stdin().is_terminal(),
                stdout: io::stdout().is_terminal(),
                stderr: io::stderr().is_terminal(),
            },
            env: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            clock: Clock::system(),
            program: program_name(std::env::args().next().as_deref()),
        }
    }
}

/// Called by another name than `cf`, the program is `cupola` with `cf` as its first argument.
fn program_name(called: Option<&str>) -> String {
    let base = called.and_then(|path| path.rsplit('/').next()).unwrap_or("cf");
    if base == "cupola" { "cupola cf".to_owned() } else { base.to_owned() }
}

/// Warnings from the API that wait to be shown; the client fills it, the next line said empties it.
pub type Notices = Arc<Mutex<Vec<String>>>;

pub struct Ui<'io> {
    pub io: &'io mut Io,
    pub notices: Notices,
    color: bool,
    broken: bool,
}

/// `say!(ui, "text {}", value)`: one line on standard output.
macro_rules! say {
    ($ui:expr) => { $ui.line(format_args!("")) };
    ($ui:expr, $($text:tt)+) => { $ui.line(format_args!($($text)+)) };
}
pub(crate) use say;

impl<'io> Ui<'io> {
    /// Colours are for terminals, unless `CF_COLOR` or the configuration says otherwise.
    pub fn new(io: &'io mut Io, configured: &str) -> Ui<'io> {
        let wish = io.env.get("CF_COLOR").map_or(configured, String::as_str);
        let color = wish.parse().unwrap_or(io.terminal.stdout);
        Ui { io, notices: Notices::default(), color, broken: false }
    }

    pub fn env(&self, name: &str) -> Option<&str> {
        self.io.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub fn line(&mut self, text: fmt::Arguments<'_>) {
        self.flush_notices();
        self.keep(|io| writeln!(io.stdout, "{text}"));
    }

    /// Bytes as they are, for bodies that are no text.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.flush_notices();
        self.keep(|io| io.stdout.write_all(bytes));
    }

    pub fn ok(&mut self) {
        let ok = self.paint("32;1", "OK");
        say!(self, "{ok}\n");
    }

    pub fn warn(&mut self, text: &str) {
        self.flush_notices();
        self.keep(|io| writeln!(io.stderr, "{text}"));
    }

    /// The message on standard error, `FAILED` on standard output, as scripts expect them.
    pub fn failed(&mut self, message: &str) {
        self.warn(message);
        let failed = self.paint("31;1", "FAILED");
        say!(self, "{failed}");
    }

    pub fn flush_notices(&mut self) {
        let waiting =
            std::mem::take(&mut *self.notices.lock().expect("no holder of this lock panics"));
        for notice in waiting {
            self.keep(|io| writeln!(io.stderr, "{notice}"));
        }
    }

    /// Nobody reads any more (`cf logs app | head`): streams may end.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    fn keep(&mut self, write: impl FnOnce(&mut Io) -> io::Result<()>) {
        let done = write(self.io).and_then(|()| self.io.stdout.flush());
        self.broken |= done.is_err();
    }

    /// A name inside a sentence.
    pub fn name(&self, text: impl fmt::Display) -> String {
        self.paint("36;1", text)
    }

    pub fn bold(&self, text: impl fmt::Display) -> String {
        self.paint("1", text)
    }

    pub fn red(&self, text: impl fmt::Display) -> String {
        self.paint("31", text)
    }

    pub fn green(&self, text: impl fmt::Display) -> String {
        self.paint("32", text)
    }

    fn paint(&self, code: &str, text: impl fmt::Display) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }

    /// Asks yes or no; no is the default.
    pub fn confirm(&mut self, question: &str) -> Result<bool> {
        loop {
            let answer = self.ask(&format!("{question} [yN]: "))?.to_lowercase();
            // What is piped in does not show by itself.
            if !self.io.terminal.stdin {
                say!(self, "{answer}");
            }
            match answer.as_str() {
                "y" | "yes" => return Ok(true),
                "" | "n" | "no" => return Ok(false),
                _ => say!(self, "invalid input (not y, n, yes, or no)"),
            }
        }
    }

    /// Asks until something is answered.
    pub fn text(&mut self, prompt: &str) -> Result<String> {
        loop {
            let answer = self.ask(&format!("{prompt}: "))?;
            if !answer.is_empty() {
                return Ok(answer);
            }
        }
    }

    /// Asks without showing the answer when a person types it.
    pub fn password(&mut self, prompt: &str) -> Result<String> {
        if !self.io.terminal.stdin {
            let answer = self.text(prompt);
            say!(self);
            return answer;
        }
        self.prompt(&format!("{prompt}: "));
        rpassword::read_password()
            .map_err(|error| Error::Failed(format!("reading the password: {error}")))
    }

    /// Lets a person choose by number or by name; `None` when skipped.
    pub fn choose(
        &mut self,
        title: &str,
        prompt: &str,
        choices: &[String],
    ) -> Result<Option<Choice>> {
        const MOST_LISTED: usize = 50;
        loop {
            say!(self, "{title}");
            if choices.len() < MOST_LISTED {
                for (index, choice) in choices.iter().enumerate() {
                    say!(self, "{}. {choice}", index + 1);
                }
            } else {
                say!(self, "There are too many options to display; please type in the name.");
            }
            say!(self);
            let answer = match self.ask(&format!("{prompt} (enter to skip): ")) {
                Err(Error::EndOfInput) => return Ok(None),
                answer => answer?,
            };
            say!(self);
            match pick(&answer, choices) {
                Pick::Skipped => return Ok(None),
                Pick::At(index) => return Ok(Some(Choice::Known(index))),
                Pick::Unknown => return Ok(Some(Choice::Unknown(answer))),
                Pick::Again => {}
            }
        }
    }

    fn ask(&mut self, prompt: &str) -> Result<String> {
        self.prompt(prompt);
        let mut answer = String::new();
        match self.io.stdin.read_line(&mut answer) {
            Ok(0) => Err(Error::EndOfInput),
            Ok(_) => Ok(answer.trim().to_owned()),
            Err(error) => Err(Error::Failed(format!("reading the answer: {error}"))),
        }
    }

    fn prompt(&mut self, prompt: &str) {
        self.flush_notices();
        self.keep(|io| write!(io.stdout, "{prompt}"));
    }
}

/// What a person chose: one of the list, or a name that is not on it.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice {
    Known(usize),
    Unknown(String),
}

enum Pick {
    Skipped,
    At(usize),
    Unknown,
    Again,
}

/// Pure: what an answer to a numbered list means. A number outside the list asks again.
fn pick(answer: &str, choices: &[String]) -> Pick {
    if answer.is_empty() {
        return Pick::Skipped;
    }
    if let Ok(number) = answer.parse::<usize>() {
        return if (1..=choices.len()).contains(&number) {
            Pick::At(number - 1)
        } else {
            Pick::Again
        };
    }
    choices.iter().position(|choice| choice == answer).map_or(Pick::Unknown, Pick::At)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_number_or_a_name() {
        let choices = ["dev".to_owned(), "prod".to_owned()];
        assert!(matches!(pick("2", &choices), Pick::At(1)));
        assert!(matches!(pick("dev", &choices), Pick::At(0)));
        assert!(matches!(pick("3", &choices), Pick::Again));
        assert!(matches!(pick("test", &choices), Pick::Unknown));
        assert!(matches!(pick("", &choices), Pick::Skipped));
    }

    #[test]
    fn the_name_in_tips_can_be_typed() {
        assert_eq!(program_name(Some("/usr/bin/cf")), "cf");
        assert_eq!(program_name(Some("target/debug/cupola")), "cupola cf");
    }
}
