//! The time that an event takes in user space: to decode it, to update the model, and to find duplicates. Makes no
//! system calls.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fdwatch_common::{Event, Exit, FdClose, FdOpen, Fork, Header, Kind, Payload};
use fdwatch_core::{
    engine::Engine,
    model::{AnonymousDevices, Model, Moment},
    recording::{Frame, Player},
};

/// A sequence of events, aligned as in the ring buffer.
#[derive(Default)]
struct Records {
    words: Vec<u64>,
    ends: Vec<usize>,
}

impl Records {
    fn push(&mut self, record: &[u8]) {
        let words = record.chunks_exact(8);
        let words = words.map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap_or_default()));
        self.words.extend(words);
        self.ends.push(self.words.len());
    }

    fn each(&self, mut on_record: impl FnMut(&[u8])) {
        let mut from = 0;
        for &end in &self.ends {
            let words = &self.words[from..end];
            // SAFETY: integers may be read as bytes.
            on_record(unsafe {
                std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words))
            });
            from = end;
        }
    }

    fn header(kind: Kind, tgid: u32, fd: u32) -> Header {
        Header {
            kind: kind as u8,
            call: libc::SYS_openat as u16,
            fd,
            tid: tgid,
            tgid,
            ..Header::default()
        }
    }

    fn fork(&mut self, parent: u32, child: u32) -> &mut Self {
        let fork = Fork {
            header: Self::header(Kind::Fork, child, 0),
            table: table(child),
            parent_table: table(parent),
            start_time: u64::from(child),
            parent_tid: parent,
            parent_tgid: parent,
        };
        self.push(fork.as_bytes());
        self
    }

    fn exit(&mut self, tgid: u32) -> &mut Self {
        let header = Header {
            flags: (Exit::LAST_THREAD | Exit::LAST_HOLDER).bits(),
            ..Self::header(Kind::Exit, tgid, 0)
        };
        self.push(Exit { header }.as_bytes());
        self
    }

    fn birth(&mut self, tgid: u32, fd: u32, file: u64) -> &mut Self {
        let birth = FdOpen {
            header: Self::header(Kind::FdOpen, tgid, fd),
            table: table(tgid),
            payload: Payload {
                file: 0xffff_8880_0000_0000 + file * 256,
                ino: file,
                dev: 0x0fe0_0000,
                flags: libc::O_RDWR as u32,
                mode: libc::S_IFREG | 0o644,
                nlink: 1,
            },
        };
        self.push(birth.as_bytes());
        self
    }

    fn death(&mut self, tgid: u32, fd: u32, file: u64) -> &mut Self {
        let death = FdClose {
            header: Self::header(Kind::FdClose, tgid, fd),
            table: table(tgid),
            file: 0xffff_8880_0000_0000 + file * 256,
        };
        self.push(death.as_bytes());
        self
    }
}

fn table(tgid: u32) -> u64 {
    0xffff_8881_0000_0000 + u64::from(tgid) * 704
}

/// Processes with twenty open files each.
fn processes(count: u32) -> Records {
    let mut records = Records::default();
    for tgid in 1..=count {
        records.fork(0, tgid);
        for fd in 0..20 {
            records.birth(tgid, fd, u64::from(tgid) * 100 + u64::from(fd));
        }
    }
    records
}

/// The processes open and close in turns, as on many processors.
fn pairs(processes: u32) -> Records {
    let mut records = Records::default();
    for i in 0..10_000 {
        let tgid = i % processes + 1;
        let file = 1_000_000 + u64::from(i % 64);
        records.birth(tgid, 20, file).death(tgid, 20, file);
    }
    records
}

/// Duplicates a descriptor and closes the copy: a duplicate that appears and disappears.
fn dups() -> Records {
    let mut records = Records::default();
    for _ in 0..10_000 {
        records.birth(1, 20, 100).death(1, 20, 100);
    }
    records
}

/// The events of a recording, without those of audits.
fn recorded(bytes: &[u8]) -> Records {
    let mut records = Records::default();
    let mut player = Player::new(bytes).expect("a valid recording");
    let mut is_event = true;
    loop {
        match player.next_frame().expect("a complete recording").0 {
            Frame::Records if is_event => player
                .records(|record| records.push(record))
                .expect("a complete recording"),
            Frame::BeginAudit => is_event = false,
            Frame::EndAudit => is_event = true,
            Frame::End => break,
            _ => {}
        }
    }
    records
}

fn engine(before: &Records) -> Engine {
    let mut engine = Engine::new(AnonymousDevices::default(), false);
    before.each(|record| engine.record(record, Moment(1)));
    engine
}

/// Measures decoding, decoding with the model, and everything, with duplicates settled ten times a second.
fn stream(criterion: &mut Criterion, name: &str, before: &Records, records: &Records) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(records.ends.len() as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            records.each(|record| {
                let _ = black_box(Event::parse(record));
            });
        });
    });
    group.bench_function("model", |bencher| {
        let mut model = Model::new(AnonymousDevices::default());
        before.each(|record| {
            if let Ok(event) = Event::parse(record) {
                model.apply(&event, Moment(1), &mut ());
            }
        });
        bencher.iter(|| {
            records.each(|record| {
                if let Ok(event) = Event::parse(record) {
                    model.apply(&event, Moment(2), &mut ());
                }
            });
        });
    });
    group.bench_function("whole-way", |bencher| {
        let mut engine = engine(before);
        bencher.iter(|| {
            records.each(|record| engine.record(record, Moment(2)));
            let now = engine.model.now();
            engine.settle(now, &mut |_, _| {});
        });
    });
    group.finish();
}

/// A process with 1,000 descriptors forks, and the child exits.
fn fork(criterion: &mut Criterion) {
    let mut before = processes(1);
    for fd in 20..1_000 {
        before.birth(1, fd, 10_000 + u64::from(fd));
    }
    let mut records = Records::default();
    records.fork(1, 2).exit(2);
    criterion.bench_function("fork of 1,000 descriptors, and exit", |bencher| {
        let mut engine = engine(&before);
        // Settles earlier events.
        let now = Moment(10_000_000_000);
        engine.settle(now, &mut |_, _| {});
        bencher.iter_custom(|count| {
            let began = Instant::now();
            for _ in 0..count {
                records.each(|record| engine.record(record, now));
            }
            let took = began.elapsed();
            engine.settle(engine.model.now(), &mut |_, _| {});
            took
        });
    });
    // A child that closes all descriptors: its table is copied chunk by chunk.
    let mut closing = Records::default();
    closing.fork(1, 2);
    for fd in 0..1_000 {
        closing.death(2, fd, 0);
    }
    closing.exit(2);
    criterion.bench_function("fork of 1,000 descriptors, all closed", |bencher| {
        bencher.iter_batched_ref(
            || engine(&before),
            |engine| closing.each(|record| engine.record(record, now_of(engine))),
            BatchSize::LargeInput,
        );
    });
}

fn now_of(engine: &Engine) -> Moment {
    engine.model.now()
}

fn streams(criterion: &mut Criterion) {
    stream(criterion, "pairs in 1 process", &processes(1), &pairs(1));
    stream(
        criterion,
        "pairs in 200 processes",
        &processes(200),
        &pairs(200),
    );
    stream(
        criterion,
        "pairs in 10,000 processes",
        &processes(10_000),
        &pairs(10_000),
    );
    stream(criterion, "dups", &processes(1), &dups());
    let nginx = recorded(include_bytes!("../tests/recordings/nginx.fdw"));
    let postgres = recorded(include_bytes!("../tests/recordings/postgres.fdw"));
    for (name, records) in [("recorded nginx", nginx), ("recorded postgres", postgres)] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(records.ends.len() as u64));
        group.bench_function("whole-way", |bencher| {
            bencher.iter_batched_ref(
                || Engine::new(AnonymousDevices::default(), false),
                |engine| {
                    records.each(|record| engine.record(record, Moment(2)));
                    let now = engine.model.now();
                    engine.settle(now, &mut |_, _| {});
                },
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .without_plots();
    targets = streams, fork
}
criterion_main!(benches);
