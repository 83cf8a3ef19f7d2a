//! Made-up agents that write a day of findings to a ClickHouse through the real client, and the
//! questions over them: `fleet_sim URL ROWS [HOSTS] [HOURS] [SEED]`. The database is `fdwatch_sim`,
//! which must not be there before.
//!
//! One deployment, two hours before the end, brings a bug on a tenth of the hosts: `fleet new` must
//! tell that and nothing else.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use fdwatch::fleet::{
    questions::{Asked, By, Source},
    rows::{FindingRow, Table, add_line},
    schema::Wanted,
    setup,
    signature::id,
    store::{Address, Client},
};

const DATABASE: &str = "fdwatch_sim";
const END: u64 = 1_790_000_000;
const BATCH: u64 = 100_000;
const BUGS: u64 = 60;

/// splitmix64: the same numbers from the same seed.
struct Random(u64);

impl Random {
    const fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % most
    }
}

#[expect(clippy::cast_possible_truncation, reason = "they are bounded")]
fn row(random: &mut Random, number: u64, hosts: u64, time: u64) -> FindingRow {
    // Few bugs are on most hosts, and most on few.
    let host = random.below(hosts);
    let is_new = time > END - 7200 && host < hosts / 10 && random.below(10) == 0;
    let bug = if is_new {
        BUGS
    } else {
        random.below(BUGS).min(random.below(BUGS))
    };
    let program = format!("service-{bug}.service");
    let path = format!("/var/log/service-{bug}/{{n}}.log");
    FindingRow {
        time: time as u32,
        host: format!("host-{host:05}.example.org"),
        labels: "env=prod".into(),
        run: host,
        number,
        key: host << 32 | bug << 8 | random.below(8),
        process: host << 32 | bug << 8 | random.below(3),
        signature: id(&program, "reopened", &path),
        program,
        cause: "reopened".into(),
        path,
        severity: 2 + u8::from(random.below(20) == 0),
        change: 1 + random.below(4) as u8,
        fds: 2 + random.below(4) as u32,
        pid: random.below(4_000_000) as u32,
        comm: format!("service-{bug}"),
        file: format!("/var/log/service-{bug}/{}.log", random.below(50)),
        writers: 1,
        ..FindingRow::default()
    }
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(simulate())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "figures of six digits are shown"
)]
async fn simulate() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let url = words
        .next()
        .context("fleet_sim URL ROWS [HOSTS] [HOURS] [SEED]")?;
    let mut number = |default: u64| words.next().map_or(Ok(default), |word| word.parse());
    let (rows, hosts, hours) = (number(1_000_000)?, number(10_000)?, number(24)?);
    let mut random = Random(number(1)?);
    let client = Client::new(Address {
        url,
        database: DATABASE.into(),
        ..Address::default()
    })?;
    let wanted = Wanted {
        database: DATABASE.into(),
        cluster: None,
        days: 3650,
        rollup_days: 3650,
    };
    setup::init(&client, &wanted).await?;
    let (mut writing, mut number) = (0.0, 0);
    while number < rows {
        let mut lines = Vec::new();
        for _ in 0..BATCH.min(rows - number) {
            let time = END - hours * 3600 + number * hours * 3600 / rows;
            add_line(&mut lines, &row(&mut random, number, hosts, time))?;
            number += 1;
        }
        let begin = Instant::now();
        client.insert(Table::Findings, &lines).await?;
        writing += begin.elapsed().as_secs_f64();
    }
    println!(
        "{rows} findings in {writing:.1} s: {:.0} a second",
        rows as f64 / writing
    );
    let sizes = client
        .run(
            &format!(
                "SELECT table, sum(bytes_on_disk) FROM system.parts WHERE active AND \
                 database = '{DATABASE}' GROUP BY table ORDER BY table FORMAT TabSeparated"
            ),
            &[],
        )
        .await?;
    for line in sizes.lines() {
        if let Some((table, bytes)) = line.split_once('\t') {
            let bytes: f64 = bytes.parse()?;
            println!("{table}: {:.1} bytes a finding", bytes / rows as f64);
        }
    }
    let now = u32::try_from(END)?;
    let day_long = u32::try_from(hours * 3600)?;
    let day = Asked::since(now - day_long, now, 1);
    let source = Source::Server(client);
    for by in [By::Signature, By::Service, By::Host, By::Path] {
        let begin = Instant::now();
        let all = source.duplicates(&day, by).await?;
        println!(
            "duplicates by {by:?}: {} rows, {:.2} s",
            all.len(),
            begin.elapsed().as_secs_f64()
        );
    }
    let begin = Instant::now();
    let new = Asked::new_since(now - 7200, day_long, now, 1);
    let all = source.duplicates(&new, By::Signature).await?;
    println!(
        "new: {} rows, {:.2} s",
        all.len(),
        begin.elapsed().as_secs_f64()
    );
    let named: Vec<_> = all.iter().map(|one| &one.program[..]).collect();
    ensure!(
        named == [format!("service-{BUGS}.service")],
        "not the deployment's bug alone: {named:?}"
    );
    let begin = Instant::now();
    source.show(&day.of(&all[0].signature)).await?;
    println!("show: {:.2} s", begin.elapsed().as_secs_f64());
    Ok(())
}
