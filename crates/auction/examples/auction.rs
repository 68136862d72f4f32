//! Measures the auction alone: `cargo run --release -p auction --example auction`.

fn main() {
    println!("{:#?}", auction::bench::run());
}
