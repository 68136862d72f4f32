//! Which machines the platform has, and what runs where: each says so in the shared database again and again, and reads
//! what the others say.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use base::CancellationToken;
use base::http::Secret;
use serde::{Deserialize, Serialize};
use sql::{Db, Migration};
use sqlx::Row as _;
use tokio::sync::watch;
use tracing::warn;

use crate::roles::{Role, Roles};

/// How often a machine says that it is there.
const SAY: Duration = Duration::from_secs(2);
/// One that said nothing for so long, by the database's clock, is not asked any more.
const SILENT_MS: i64 = 30_000;
/// One that said nothing for so long is forgotten.
const FORGOTTEN_MS: i64 = 3_600_000;
/// How long whoever asks for news waits for them.
const HELD: Duration = Duration::from_secs(20);
const PATH: &str = "/cluster/members";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_members",
    sql: "CREATE TABLE cluster_members (name TEXT PRIMARY KEY, record TEXT NOT NULL, seen_ms BIGINT NOT NULL);",
}];

const SAY_HERE: &str = "INSERT INTO cluster_members (name, record, seen_ms) VALUES ($1, $2, $3) \
    ON CONFLICT (name) DO UPDATE SET record = excluded.record, seen_ms = excluded.seen_ms";

/// What a look at the others tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    Nothing,
    Here,
}

/// A machine of the platform, as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Made once, and kept.
    pub name: String,
    /// Where it answers the others.
    pub url: String,
    pub address: Ipv4Addr,
    pub roles: Roles,
    /// Of its front door, where it has one.
    pub ports: Vec<u16>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Members {
    own: Arc<Member>,
    known: watch::Sender<Vec<Member>>,
}

impl Members {
    /// Until the others are looked for, there is only this one.
    pub fn new(own: Member) -> Members {
        let known = watch::Sender::new(vec![own.clone()]);
        Members { own: Arc::new(own), known }
    }

    pub fn own(&self) -> &Member {
        &self.own
    }

    /// Every change to come, and how it is now.
    pub fn watch(&self) -> watch::Receiver<Vec<Member>> {
        self.known.subscribe()
    }

    pub fn with(&self, role: Role) -> Vec<Member> {
        let all = self.known.borrow();
        all.iter().filter(|member| member.roles.has(role)).cloned().collect()
    }

    /// Makes the table where it is missing, and looks who is there.
    pub async fn look(&self, db: &Db) -> anyhow::Result<()> {
        db.migrate("cluster", MIGRATIONS).await?;
        self.round(db, Say::Nothing).await.context("looking for the other machines")
    }

    /// Says that this machine is there, and is found from now on.
    pub async fn enter(&self, db: &Db) -> anyhow::Result<()> {
        self.round(db, Say::Here).await.context("telling the other machines that this one is there")
    }

    /// Says so again until `stop`, and then that it is gone.
    pub async fn run(self, db: Db, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(SAY) => {}
            }
            if let Err(error) = self.round(&db, Say::Here).await {
                // Whoever was known is still asked.
                warn!(error = %format!("{error:#}"), "the list of machines was not renewed");
            }
        }
        if let Err(error) = self.leave(&db).await {
            warn!(error = %format!("{error:#}"), "the other machines were not told that this one stops");
        }
    }

    async fn round(&self, db: &Db, say: Say) -> anyhow::Result<()> {
        let mut tx = db.begin().await?;
        let now: i64 = sqlx::query_scalar(
            "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        )
        .fetch_one(&mut *tx)
        .await?;
        if say == Say::Here {
            let record = serde_json::to_string(&*self.own)?;
            let name = &self.own.name;
            sqlx::query(SAY_HERE).bind(name).bind(record).bind(now).execute(&mut *tx).await?;
        }
        sqlx::query("DELETE FROM cluster_members WHERE seen_ms < $1")
            .bind(now - FORGOTTEN_MS)
            .execute(&mut *tx)
            .await?;
        let rows = sqlx::query(
            "SELECT name, record FROM cluster_members WHERE seen_ms > $1 ORDER BY name",
        )
        .bind(now - SILENT_MS)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let mut all = BTreeMap::new();
        for row in rows {
            let text: String = row.try_get(1)?;
            match serde_json::from_str::<Member>(&text) {
                Ok(member) => drop(all.insert(member.name.clone(), member)),
                Err(error) => {
                    warn!(%error, "a machine tells what this program does not understand")
                }
            }
        }
        // What an earlier life said of this machine is not true any more.
        all.insert(self.own.name.clone(), (*self.own).clone());
        self.learn(all.into_values().collect());
        Ok(())
    }

    pub(super) fn learn(&self, all: Vec<Member>) {
        self.known.send_if_modified(|known| {
            let news = *known != all;
            *known = all;
            news
        });
    }

    async fn leave(&self, db: &Db) -> anyhow::Result<()> {
        let mut tx = db.begin().await?;
        let name = &self.own.name;
        sqlx::query("DELETE FROM cluster_members WHERE name = $1")
            .bind(name)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Tells the list to whoever shows the secret.
    pub fn router(&self, secret: &Secret) -> Router {
        let router = Router::new().route(PATH, get(list)).with_state(self.clone());
        base::http::guarded(router, secret)
    }
}

#[derive(Serialize, Deserialize)]
struct List {
    members: Vec<Member>,
    /// Names this list; whoever shows it is answered when there is another one.
    version: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Seen {
    version: String,
}

async fn list(State(members): State<Members>, Query(seen): Query<Seen>) -> Json<List> {
    let mut watch = members.watch();
    let news = watch.wait_for(|all| version(all) != seen.version);
    // Without news the same list says that this machine lives.
    let _ = tokio::time::timeout(HELD, news).await;
    let members = members.known.borrow().clone();
    let version = version(&members);
    Json(List { members, version })
}

fn version(members: &[Member]) -> String {
    let text = serde_json::to_vec(members).expect("text and numbers only");
    // FNV-1a: lists differ or they do not; nobody gains by making two alike.
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// The list as one of `servers` tells it now; `None` when none does.
pub async fn ask(http: &reqwest::Client, servers: &[String]) -> Option<Vec<Member>> {
    listen(http, servers, "").await.map(|list| list.members)
}

async fn listen(http: &reqwest::Client, servers: &[String], seen: &str) -> Option<List> {
    for server in servers {
        let get = http.get(format!("{server}{PATH}")).query(&[("version", seen)]);
        let answer = get.timeout(HELD + Duration::from_secs(5)).send().await;
        match answer.and_then(reqwest::Response::error_for_status) {
            Ok(answer) => match answer.json().await {
                Ok(list) => return Some(list),
                Err(error) => warn!(%error, server, "the list of machines cannot be read"),
            },
            Err(error) => warn!(%error, server, "asking for the list of machines"),
        }
    }
    None
}

/// For a machine without the database: asks those it knows for news until `stop`, and hands each list to `learn`.
pub async fn follow(
    http: reqwest::Client,
    mut servers: Vec<String>,
    stop: CancellationToken,
    learn: impl Fn(&[Member]),
) {
    let mut backoff = base::Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut seen = String::new();
    while !stop.is_cancelled() {
        let Some(Some(list)) = stop.run_until_cancelled(listen(&http, &servers, &seen)).await
        else {
            stop.run_until_cancelled(tokio::time::sleep(backoff.step())).await;
            continue;
        };
        backoff.reset();
        if list.version != seen && !list.members.is_empty() {
            seen = list.version;
            servers = list.members.iter().map(|member| member.url.clone()).collect();
            learn(&list.members);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str) -> Member {
        Member {
            name: name.to_owned(),
            url: format!("https://{name}"),
            address: Ipv4Addr::LOCALHOST,
            roles: Roles::new([Role::Brain]),
            ports: Vec::new(),
        }
    }

    #[tokio::test]
    async fn machines_find_each_other_and_are_forgotten_when_they_leave() {
        let Some(url) = sql::testing::postgres_url().await else { return };
        let db = sql::Postgres::parse(&url).unwrap().schema("cluster").await.unwrap();
        let (a, b) = (Members::new(member("a")), Members::new(member("b")));
        a.look(&db).await.unwrap();
        b.look(&db).await.unwrap();
        assert_eq!(b.with(Role::Brain), [member("b")], "whoever only looks is not seen");
        a.enter(&db).await.unwrap();
        b.enter(&db).await.unwrap();
        assert_eq!(b.with(Role::Brain), [member("a"), member("b")]);
        assert_eq!(b.with(Role::Router), []);
        assert_eq!(a.with(Role::Brain), [member("a")], "a has not looked again yet");
        let stop = CancellationToken::new();
        let running = tokio::spawn(a.clone().run(db.clone(), stop.clone()));
        let both = |all: &Vec<Member>| all.len() == 2;
        tokio::time::timeout(Duration::from_secs(30), a.watch().wait_for(both))
            .await
            .unwrap()
            .unwrap();
        stop.cancel();
        running.await.unwrap();
        b.enter(&db).await.unwrap();
        assert_eq!(b.with(Role::Brain), [member("b")]);
    }

    #[tokio::test]
    async fn whoever_asks_is_answered_when_something_changes() {
        let secret = Secret::new("s");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let members = Members::new(Member { url: url.clone(), ..member("a") });
        let stop = CancellationToken::new();
        let server =
            tokio::spawn(base::http::serve(listener, members.router(&secret), stop.clone()));
        let told = watch::Sender::new(0);
        let mut count = told.subscribe();
        let following = tokio::spawn(follow(
            base::http::client(Some(&secret)),
            vec!["http://127.0.0.1:1".to_owned(), url.clone()],
            stop.clone(),
            move |all| told.send_modify(|count| *count = all.len()),
        ));
        let wait = Duration::from_secs(30);
        tokio::time::timeout(wait, count.wait_for(|count| *count == 1)).await.unwrap().unwrap();
        members.learn(vec![members.own().clone(), member("b")]);
        tokio::time::timeout(wait, count.wait_for(|count| *count == 2)).await.unwrap().unwrap();
        stop.cancel();
        following.await.unwrap();
        server.await.unwrap().unwrap();
    }
}
