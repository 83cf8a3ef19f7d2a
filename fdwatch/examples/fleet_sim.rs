//! Simulates agents that write findings to ClickHouse through the real client, and times the fleet queries. Usage:
//! `fleet_sim URL ROWS [HOSTS] [HOURS] [SEED]`. The database is `fdwatch_sim`, which must not exist.
//!
//! Two writers run at a time, so that the server is always busy. The printed time includes the CPU time that the
//! writers need to generate, serialize and compress rows, which is also printed on its own.
//!
//! A deployment two hours before the end introduces a bug on a tenth of the hosts: `fleet new` must report it and
//! nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use fdwatch_fleet::{
    rows::{ExampleRow, FindingRow, HeartbeatRow, SharedFileRow, Table, add_line},
    schema::SchemaOptions,
    setup,
    signature::id,
    source::{DEFAULT_LIMIT, GroupBy, MAX_ROWS, Query, SignatureMatch, Source},
    store::{Address, Client},
};

const DATABASE: &str = "fdwatch_sim";
const END: u64 = 1_790_000_000;
const BATCH: u64 = 100_000;
const BUGS: u64 = 60;
const WRITERS: usize = 2;
const HOUR: u64 = 3600;

/// The splitmix64 generator.
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
    // Few bugs occur on most hosts, and most bugs on few hosts.
    let host = random.below(hosts);
    let is_new = time > END - 7200 && host < hosts / 10 && random.below(10) == 0;
    let bug = if is_new {
        BUGS
    } else {
        random.below(BUGS).min(random.below(BUGS))
    };
    let (program, path) = names(bug);
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
    let mut words = std::env::args().skip(1);
    let url = words
        .next()
        .context("usage: fleet_sim URL ROWS [HOSTS] [HOURS] [SEED]")?;
    let mut number = |default: u64| words.next().map_or(Ok(default), |word| word.parse());
    let simulation = Simulation {
        url,
        rows: number(1_000_000)?,
        hosts: number(10_000)?,
        hours: number(24)?,
        seed: number(1)?,
        next: AtomicU64::new(0),
        generation_nanos: AtomicU64::new(0),
    };
    runtime()?.block_on(setup::init(&simulation.client()?, &wanted()))?;
    let simulation = Arc::new(simulation);
    let began = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let simulation = Arc::clone(&simulation);
            thread::spawn(move || simulation.write())
        })
        .collect();
    for writer in writers {
        writer.join().expect("a writer panicked")?;
    }
    let took = began.elapsed().as_secs_f64();
    runtime()?.block_on(simulation.report(took))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

fn wanted() -> SchemaOptions {
    SchemaOptions {
        database: DATABASE.into(),
        cluster: None,
        days: 3650,
        rollup_days: 3650,
    }
}

struct Simulation {
    url: String,
    rows: u64,
    hosts: u64,
    hours: u64,
    seed: u64,
    /// The next batch to write.
    next: AtomicU64,
    /// Nanoseconds that all writers spent on generating rows.
    generation_nanos: AtomicU64,
}

impl Simulation {
    fn client(&self) -> Result<Client> {
        Ok(Client::new(Address {
            url: self.url.clone(),
            database: DATABASE.into(),
            ..Address::default()
        })?)
    }

    /// Writes batches until all are written.
    fn write(&self) -> Result<()> {
        let (runtime, client) = (runtime()?, self.client()?);
        loop {
            let batch = self.next.fetch_add(1, Relaxed);
            let first = batch * BATCH;
            if first >= self.rows {
                return Ok(());
            }
            let began = Instant::now();
            let mut random = Random(self.seed << 32 | batch);
            let mut lines = Vec::new();
            for number in first..self.rows.min(first + BATCH) {
                let time = END - self.hours * HOUR + number * self.hours * HOUR / self.rows;
                add_line(&mut lines, &row(&mut random, number, self.hosts, time))?;
            }
            let took = u64::try_from(began.elapsed().as_nanos())?;
            self.generation_nanos.fetch_add(took, Relaxed);
            runtime.block_on(client.insert(Table::Findings, &lines))?;
        }
    }

    /// Writes heartbeats, shared files and examples of all hosts.
    async fn write_rest(&self, client: &Client) -> Result<()> {
        let mut lines = [Vec::new(), Vec::new(), Vec::new()];
        let time = u32::try_from(END - 60)?;
        for host in 0..self.hosts {
            let name = format!("host-{host:05}.example.org");
            let heartbeat = HeartbeatRow {
                time,
                host: name.clone(),
                mode: "all".into(),
                ..HeartbeatRow::default()
            };
            add_line(&mut lines[0], &heartbeat)?;
            let file = SharedFileRow {
                time,
                network: "nas:/logs".into(),
                ino: host / 2,
                host: name.clone(),
                program: "service-0.service".into(),
                file: format!("/logs/{}", host / 2),
                writers: 1,
            };
            add_line(&mut lines[1], &file)?;
            let bug = host % (BUGS + 1);
            let (program, path) = names(bug);
            let example = ExampleRow {
                time,
                host: name,
                signature: id(&program, "reopened", &path),
                frames: String::new(),
                finding: format!("{{\"padding\":{:?}}}", "x".repeat(3000)),
            };
            add_line(&mut lines[2], &example)?;
        }
        let tables = [Table::Heartbeats, Table::SharedFiles, Table::Examples];
        for (table, lines) in tables.into_iter().zip(&lines) {
            client.insert(table, lines).await?;
        }
        Ok(())
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "the figures are printed with few digits"
    )]
    async fn report(&self, took: f64) -> Result<()> {
        let rows = self.rows as f64;
        println!(
            "{} findings in {took:.1} s: {:.0} per second; {:.1} s CPU to generate them",
            self.rows,
            rows / took,
            self.generation_nanos.load(Relaxed) as f64 / 1e9
        );
        let client = self.client()?;
        self.write_rest(&client).await?;
        let sizes = client
            .run(
                &format!(
                    "SELECT table, sum(bytes_on_disk) FROM system.parts WHERE active AND \
                     database = '{DATABASE}' GROUP BY table ORDER BY table FORMAT TabSeparated"
                ),
                &[],
            )
            .await?;
        let mut all = 0.0;
        for line in sizes.lines() {
            if let Some((table, bytes)) = line.split_once('\t') {
                let bytes: f64 = bytes.parse()?;
                all += bytes;
                println!("{table}: {:.1} bytes per finding", bytes / rows);
            }
        }
        println!(
            "total: {:.1} bytes per finding, {:.2} GB",
            all / rows,
            all / 1e9
        );
        self.query(Source::Server(client)).await
    }

    async fn query(&self, source: Source) -> Result<()> {
        let now = u32::try_from(END)?;
        let all_long = u32::try_from(self.hours * HOUR)?;
        let (day_long, week_long) = (86_400, 7 * 86_400);
        for long in [day_long, all_long] {
            let asked = Query::since(now - long, now, 1);
            for (by, most) in [
                (GroupBy::Signature, DEFAULT_LIMIT),
                (GroupBy::Service, DEFAULT_LIMIT),
                (GroupBy::Path, DEFAULT_LIMIT),
                (GroupBy::Host, DEFAULT_LIMIT),
                (GroupBy::Host, MAX_ROWS),
            ] {
                let began = Instant::now();
                let lines = source.duplicates(&asked, by, most).await?;
                let what = format!(
                    "duplicates by {by:?}, {} h, {} of {} lines",
                    long / 3600,
                    lines.shown.len(),
                    lines.count
                );
                print_time(&what, began);
            }
            if day_long == all_long {
                break;
            }
        }
        let began = Instant::now();
        let new = Query::new_since(now - 7200, week_long, now, 1);
        let all = source
            .duplicates(&new, GroupBy::Signature, DEFAULT_LIMIT)
            .await?
            .shown;
        print_time(&format!("new, 2 h, {} lines", all.len()), began);
        let named: Vec<_> = all.iter().map(|one| &one.program[..]).collect();
        ensure!(
            named == [format!("service-{BUGS}.service")],
            "expected only the deployment's bug: {named:?}"
        );
        let week = Query::since(now - week_long, now, 1);
        let (program, path) = names(0);
        for (what, signature) in [
            ("show the new bug, 7 d", all[0].signature.clone()),
            (
                "show the most common bug, 7 d",
                id(&program, "reopened", &path),
            ),
        ] {
            let began = Instant::now();
            let SignatureMatch::One(shown) = source.show(&week.clone().of(&signature)).await?
            else {
                anyhow::bail!("{signature} not found");
            };
            print_time(&format!("{what}, {} hosts", shown.hosts.len()), began);
        }
        let began = Instant::now();
        let count = source.hosts(&week).await?.len();
        print_time(&format!("hosts, 7 d, {count} lines"), began);
        let began = Instant::now();
        let day = Query::since(now - day_long, now, 1);
        let count = source.shared(&day).await?.len();
        print_time(&format!("shared, 24 h, {count} lines"), began);
        Ok(())
    }
}

fn print_time(what: &str, began: Instant) {
    println!("{what}: {:.2} s", began.elapsed().as_secs_f64());
}

fn names(bug: u64) -> (String, String) {
    (
        format!("service-{bug}.service"),
        format!("/var/log/service-{bug}/{{n}}.log"),
    )
}
