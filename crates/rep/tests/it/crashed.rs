use base::http::Secret;
use diego::InstanceGuid;
use diego::bbs::ErrorKind;
use futures::TryStreamExt as _;
use garden::Garden;
use rep::{Client, CrashedInstance, FileKind};

use crate::support::{Brain, Cell, SECRET};

fn client(cell: &Cell) -> Client {
    Client::new(base::http::client(Some(&Secret::new(SECRET))), &cell.url)
}

async fn read(pieces: Result<rep::Pieces, diego::BbsError>) -> Result<String, diego::BbsError> {
    let bytes: Vec<bytes::Bytes> = pieces?.try_collect().await?;
    Ok(String::from_utf8_lossy(&bytes.concat()).into_owned())
}

async fn until_kept(client: &Client, count: usize) -> Vec<CrashedInstance> {
    let wait = async {
        loop {
            let kept = client.crashed().await.unwrap();
            if kept.len() == count {
                return kept;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, wait).await.unwrap()
}

const SCRIPT: &str = "mkdir -p tmp/sub; echo why > tmp/core; echo x > tmp/sub/deep; exit 7";

#[tokio::test]
async fn what_a_crashed_instance_left_is_listed_and_read() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let guid = brain.desire("web", 1, SCRIPT).await;
    let client = client(&cell);
    // It crashes three times, of which the last two are kept.
    let lrps = brain.until(&guid, |lrps| lrps.iter().any(|lrp| lrp.crash_count == 3)).await;
    cell.until_empty().await;
    let kept = until_kept(&client, 2).await;
    let one = &kept[0];
    assert_eq!((&one.process_guid, one.index, one.cell_id.as_str()), (&guid, 0, "cell-1"));
    assert_eq!(one.reason, lrps[0].crash_reason);
    assert!(one.kept_until > one.crashed_at);

    let listing = client.crashed_list(&one.instance_guid, "/tmp").await.unwrap();
    let told: Vec<_> = listing.entries.iter().map(|one| (&*one.name, one.kind, one.size)).collect();
    assert_eq!(told, [("core", FileKind::File, 4), ("sub", FileKind::Folder, 0)]);
    assert!(!listing.truncated);
    assert_eq!(
        read(client.crashed_file(&one.instance_guid, "/tmp/core").await).await.unwrap(),
        "why\n"
    );
    let pieces: Vec<bytes::Bytes> =
        client.crashed_tar(&one.instance_guid, "/tmp").await.unwrap().try_collect().await.unwrap();
    let pieces = pieces.concat();
    let mut archive = tar::Archive::new(&*pieces);
    let names: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|one| one.unwrap().path().unwrap().display().to_string())
        .collect();
    assert!(names.iter().any(|name| name.ends_with("sub/deep")), "{names:?}");

    let kind = |error: diego::BbsError| error.kind;
    let missing = read(client.crashed_file(&one.instance_guid, "/tmp/none").await).await;
    assert_eq!(kind(missing.unwrap_err()), ErrorKind::ResourceNotFound);
    let unknown = client.crashed_list(&InstanceGuid::from("nobody"), "/tmp").await;
    assert_eq!(kind(unknown.unwrap_err()), ErrorKind::ResourceNotFound);
    for path in ["/", "/proc/self", "tmp", "/tmp/../proc"] {
        let refused = client.crashed_list(&one.instance_guid, path).await;
        assert_eq!(kind(refused.unwrap_err()), ErrorKind::InvalidRequest, "{path}");
    }
    // A folder is no file, and that shows at the latest at the end.
    assert!(
        read(client.crashed_file(&one.instance_guid, "/tmp/sub").await)
            .await
            .is_ok_and(|text| text == "x\n")
            || read(client.crashed_file(&one.instance_guid, "/tmp/sub").await).await.is_err()
    );
    let stranger = base::http::client(None);
    let url = format!("{}/v2/crashed", cell.url);
    assert_eq!(stranger.get(url).send().await.unwrap().status(), 401);

    client.crashed_remove(&one.instance_guid).await.unwrap();
    client.crashed_remove(&one.instance_guid).await.unwrap();
    assert_eq!(until_kept(&client, 1).await, [kept[1].clone()]);
}

#[tokio::test]
async fn they_take_no_room_outlive_a_restart_and_go_with_the_cell() {
    let brain = Brain::new().await;
    let cell = Cell::new(&brain, "cell-1").await;
    let guid = brain.desire("web", 1, SCRIPT).await;
    brain.until(&guid, |lrps| lrps.iter().any(|lrp| lrp.crash_count == 3)).await;
    cell.until_empty().await;
    use diego::Cell as _;
    let state = client(&cell).state().await.unwrap();
    assert_eq!(state.available, state.presence.capacity);
    let kept = until_kept(&client(&cell), 2).await;
    assert!(cell.garden.falls_quiet(&kept[0].instance_guid.as_str().into()).await);
    let cell = Cell::back(&brain, cell.leave().await).await;
    assert_eq!(client(&cell).crashed().await.unwrap(), kept);
    let file = client(&cell).crashed_file(&kept[0].instance_guid, "/tmp/core").await;
    assert_eq!(read(file).await.unwrap(), "why\n");
    cell.rep.clear().await;
    assert!(cell.garden.containers().await.unwrap().is_empty());
    assert_eq!(client(&cell).crashed().await.unwrap(), []);
}
