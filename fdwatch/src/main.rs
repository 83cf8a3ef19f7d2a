//! fdwatch.
fn main() {
    let mut p = fdwatch::probe::Probe::load(Default::default()).unwrap_or_else(|e| panic!("{e}"));
    p.attach().unwrap_or_else(|e| panic!("{e}"));
    let t = std::time::Instant::now();
    let mut n = [0u64; 16];
    p.snapshot(|r| {
        n[r[0] as usize] += 1;
        if std::env::var("V").is_ok() {
            println!("{:x?}", fdwatch_common::Event::parse(r));
        }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    println!("{:?} {n:?}", t.elapsed());
    for _ in 0..20 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        p.drain(usize::MAX, |r| {
            n[r[0] as usize] += 1;
            if std::env::var("V").is_ok() {
                println!("{:x?}", fdwatch_common::Event::parse(r));
            }
        });
    }
    println!("{n:?} {:?}", p.lost());
    p.detach();
}
