//! Refuses to link an Expat that nobody maintains.
//!
//! `expat-sys` asks pkg-config for Expat; where that finds none it builds a
//! copy of 2012 that it carries along, without a word. It tells so only by the
//! `outdir` it then hands on, which arrives here as `DEP_EXPAT_OUTDIR`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("DEP_EXPAT_OUTDIR").is_some() {
        panic!(
            "\n\npkg-config found no Expat, and the copy of 2012 inside expat-sys is not safe to use.\n\
             Install the system's Expat with its header and pkg-config file, then build again:\n\
             \x20   apt-get install libexpat1-dev pkg-config\n\
             If that has just been done: cargo clean -p expat-sys\n"
        );
    }
}
