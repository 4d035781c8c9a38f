//! Refuses to link an Expat that nobody maintains, and tells the code what the
//! linked c-ares can do.
//!
//! `expat-sys` asks pkg-config for Expat; where that finds none it builds a
//! copy of 2012 that it carries along, without a word. It tells so only by the
//! `outdir` it then hands on, which arrives here as `DEP_EXPAT_OUTDIR`.

/// The first c-ares whose own cache can be switched off, 1.23.0, a byte a number.
const QUERY_CACHE: u64 = 0x01_17_00;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(cares_query_cache)");
    let c_ares = std::env::var("DEP_CARES_VERSION_NUMBER").unwrap_or_default();
    if u64::from_str_radix(&c_ares, 16).is_ok_and(|version| version >= QUERY_CACHE) {
        println!("cargo::rustc-cfg=cares_query_cache");
    }
    if std::env::var_os("DEP_EXPAT_OUTDIR").is_some() {
        panic!(
            "\n\npkg-config found no Expat, and the copy of 2012 inside expat-sys is not safe to use.\n\
             Install the system's Expat with its header and pkg-config file, then build again:\n\
             \x20   apt-get install libexpat1-dev pkg-config\n\
             If that has just been done: cargo clean -p expat-sys\n"
        );
    }
}
