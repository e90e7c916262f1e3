//! Rows in numbers that nobody waits for: written by the database itself, each with everything it
//! refers to, so that every listing and list sees what it would see in production. Names repeat as
//! people's do; bytes are of the usual length and mean nothing.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use wicketgate::clock::{Clock, SystemClock};
use wicketgate::store::Store;

use super::server::Inside;

const FIRST: [&str; 16] = [
    "Anna", "Boris", "Chidi", "Dolores", "Emeka", "Farida", "Goran", "Hana", "Ilse", "Jorge", "Katya",
    "Lior", "Mira", "Noor", "Otto", "Petra",
];
const LAST: [&str; 16] = [
    "Adeyemi", "Bauer", "Castillo", "Dubois", "Eriksen", "Ferrari", "Gupta", "Hansen", "Ito", "Jansen",
    "Kim", "Lopez", "Moreau", "Novak", "Okafor", "Petrov",
];
/// Certificates of a person, and of a device, in a filled inventory.
const OF_ONE_PERSON: usize = 100;
const OF_ONE_DEVICE: usize = 10;
/// Rows of a statement: what one commit holds.
const PART: usize = 100_000;

/// What a filled inventory can be asked for.
#[derive(Serialize, Deserialize)]
pub(crate) struct Filled {
    pub(crate) person: String,
    pub(crate) device: String,
}

/// How either database says it.
struct Words {
    /// Rows numbered from 1 to `{n}` as `n.i`.
    numbers: fn(usize) -> String,
    /// 64 random hexadecimal digits.
    digits: &'static str,
    /// About 600 octets.
    octets: &'static str,
    /// The number with leading zeros, twelve digits.
    padded: fn(&str) -> String,
}

const SQLITE: Words = Words {
    numbers: |most| {
        format!(
            "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {most}) SELECT i FROM n) n"
        )
    },
    digits: "lower(hex(randomblob(32)))",
    octets: "randomblob(600)",
    padded: |number| format!("printf('%012d', {number})"),
};

const POSTGRESQL: Words = Words {
    numbers: |most| format!("generate_series(1, {most}) AS n(i)"),
    digits: "(md5(random()::text) || md5(random()::text))",
    octets: "decode(repeat(md5(random()::text), 37), 'hex')",
    padded: |number| format!("lpad(({number})::text, 12, '0')"),
};

/// That many revoked certificates.
pub(crate) async fn revoked(inside: &Inside, count: usize) -> Result<()> {
    let (people_count, devices) = (count.div_ceil(OF_ONE_PERSON), count.div_ceil(OF_ONE_DEVICE));
    people(inside, people_count, devices).await?;
    for done in (0..count).step_by(PART) {
        let share = Share { revoked: 1, of: 1 };
        certificates(inside, PART.min(count - done), people_count, devices, share).await?;
    }
    settle(&inside.store).await
}

/// That many certificates: one in twenty revoked, three in ten expired.
pub(crate) async fn inventory(inside: &Inside, count: usize) -> Result<Filled> {
    let (people_count, devices) = (count.div_ceil(OF_ONE_PERSON), count.div_ceil(OF_ONE_DEVICE));
    people(inside, people_count, devices).await?;
    for done in (0..count).step_by(PART) {
        certificates(inside, PART.min(count - done), people_count, devices, Share { revoked: 1, of: 20 })
            .await?;
    }
    settle(&inside.store).await?;
    let id = |kind: u32, number: usize| format!("00000000-0000-700{kind}-8000-{number:012}");
    Ok(Filled { person: id(1, people_count / 2), device: id(2, devices / 2) })
}

struct Share {
    revoked: usize,
    of: usize,
}

fn words(store: &Store) -> &'static Words {
    if store.is_sqlite() { &SQLITE } else { &POSTGRESQL }
}

/// `list[number]` in SQL.
fn pick(list: &[&str], number: &str) -> String {
    let cases: String =
        list.iter().enumerate().map(|(at, word)| format!(" WHEN {at} THEN '{word}'")).collect();
    format!("CASE ({number}) % {}{cases} END", list.len())
}

async fn run(store: &Store, sql: String) -> Result<()> {
    let ran = store.write(move |transaction| Box::pin(async move { transaction.execute(&sql).await }));
    ran.await.context("filling")
}

async fn people(inside: &Inside, people: usize, devices: usize) -> Result<()> {
    let (store, words) = (&inside.store, words(&inside.store));
    let now = SystemClock.now().as_unix();
    let id =
        |kind: u32, number: &str| format!("'00000000-0000-700{kind}-8000-' || {}", (words.padded)(number));
    let (first, last) = (pick(&FIRST, "n.i"), pick(&LAST, "n.i / 16"));
    run(
        store,
        format!(
            "INSERT INTO person (id, email, name, role, groups, disabled, created_at, version) \
             SELECT {}, lower(({first}) || '.' || ({last})) || n.i || '@example.com', ({first}) || ' ' || ({last}), \
             'member', '[]', false, {now}, 1 FROM {} WHERE true ON CONFLICT DO NOTHING",
            id(1, "n.i"),
            (words.numbers)(people),
        ),
    )
    .await?;
    run(
        store,
        format!(
            "INSERT INTO device (id, person_id, name, created_at, version, name_key) \
             SELECT {}, {}, 'Laptop ' || n.i, {now}, 1, 'laptop ' || n.i FROM {} WHERE true \
             ON CONFLICT DO NOTHING",
            id(2, "n.i"),
            id(1, &format!("1 + n.i % {people}")),
            (words.numbers)(devices),
        ),
    )
    .await
}

async fn certificates(
    inside: &Inside,
    count: usize,
    people: usize,
    devices: usize,
    share: Share,
) -> Result<()> {
    let (store, words) = (&inside.store, words(&inside.store));
    let now = SystemClock.now().as_unix();
    let authority = "client-issuing-g1";
    // A mark of this part's, to find its serials again.
    let mark = format!("fill {}", inside.mark());
    run(
        store,
        format!(
            "INSERT INTO serial (serial, purpose, reserved_at) \
             SELECT '4' || substr({}, 2, 31), '{mark}', n.i FROM {}",
            words.digits,
            (words.numbers)(count),
        ),
    )
    .await?;
    let device = format!("1 + s.reserved_at * 7 % {devices}");
    let person = format!("1 + ({device}) % {people}");
    let id =
        |kind: u32, number: &str| format!("'00000000-0000-700{kind}-8000-' || {}", (words.padded)(number));
    // From 300 days back to 700 ahead: three in ten are over.
    let end = format!("{now} - 25920000 + (s.reserved_at * 7919 % 1000) * 86400");
    run(
        store,
        format!(
            "INSERT INTO intent (serial, authority, tbs, person_id, device_id, profile, not_after, created_at, \
             resolved_at, outcome, purpose) \
             SELECT s.serial, '{authority}', {}, {}, {}, 'device', {end}, {now}, {now}, 'issued', 'client' \
             FROM serial s WHERE s.purpose = '{mark}'",
            words.octets,
            id(1, &person),
            id(2, &device),
        ),
    )
    .await?;
    let (first, last) = (pick(&FIRST, &person), pick(&LAST, &format!("({person}) / 16")));
    let subject = format!("({first}) || ' ' || ({last})");
    let email = format!("lower(({first}) || '.' || ({last})) || ({person}) || '@example.com'");
    let Share { revoked, of } = share;
    let revoked = format!("s.reserved_at % {of} < {revoked}");
    let start = format!("{end} - 31536000");
    // The list names revoked ones that are not over.
    let end = if of == 1 { format!("{now} + 8640000") } else { end };
    run(
        store,
        format!(
            "INSERT INTO certificate (serial, authority, person_id, device_id, profile, lineage, fingerprint, \
             spki_sha256, subject, email, not_before, not_after, issued_at, der, revoked_at, revocation_reason, \
             subject_key, email_key) \
             SELECT s.serial, '{authority}', {}, {}, 'device', {}, {digits}, {digits}, {subject}, {email}, \
             {start}, {end}, {start}, {}, CASE WHEN {revoked} THEN {now} - s.reserved_at END, \
             CASE WHEN {revoked} THEN 4 END, lower({subject}), {email} \
             FROM serial s WHERE s.purpose = '{mark}'",
            id(1, &person),
            id(2, &device),
            id(3, "s.reserved_at"),
            words.octets,
            digits = words.digits,
        ),
    )
    .await
}

/// What PostgreSQL does by itself after a while, and SQLite never.
async fn settle(store: &Store) -> Result<()> {
    if store.is_sqlite() { Ok(()) } else { run(store, "ANALYZE".to_owned()).await }
}
