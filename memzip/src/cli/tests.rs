//! Tests of the command line.

use clap::CommandFactory;

use super::*;

fn serve(args: &[&str]) -> Result<Serve, clap::error::ErrorKind> {
    let cli = Cli::try_parse_from(["memzip", "serve"].iter().chain(args))
        .map_err(|error| error.kind())?;
    match cli.command {
        Command::Serve(serve) => Ok(*serve),
        other => panic!("parsed as {other:?}"),
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let args = serve(&[]).expect("no option is needed");
    assert_eq!(
        (args.size, args.algorithm.to_string(), args.chain),
        (DEFAULT_SIZE, "zstd:3".into(), 16)
    );
    assert_eq!((args.unix, args.port, args.mem_limit, args.read_only), (None, None, None, false));
}

#[test]
fn compact_does_both_unless_one_is_named() {
    let request =
        |args: &[&str]| match Cli::try_parse_from(["memzip", "compact"].iter().chain(args)) {
            Ok(Cli { command: Command::Compact(compact) }) => compact.request(),
            other => panic!("parsed as {other:?}"),
        };
    let both = CompactRequest::default();
    assert_eq!(request(&[]), both);
    assert_eq!(request(&["--objects", "--frames"]), both);
    assert_eq!(request(&["--objects"]), CompactRequest { frames: false, ..both });
    assert_eq!(request(&["--frames"]), CompactRequest { objects: false, ..both });
    assert_eq!(request(&["--budget", "0"]), CompactRequest { budget_ms: Some(0), ..both });
    assert!(Cli::try_parse_from(["memzip", "compact", "--budget", "-1"]).is_err());
    assert!(Cli::try_parse_from(["memzip", "compact", "--budget", "soon"]).is_err());
}

#[test]
fn maintenance_has_defaults_and_refuses_junk() {
    use clap::error::ErrorKind::{InvalidValue, ValueValidation};
    let usual = serve(&[]).expect("no option is needed");
    assert_eq!((usual.balloon, usual.hot_cache, usual.movability), (None, None, Movability::On));
    assert_eq!(usual.compact_background, Background(Some(10)));
    let args = serve(&[
        "--balloon",
        "1G",
        "--compact-background",
        "off",
        "--movability",
        "off",
        "--hot-cache",
        "64M",
    ]);
    let args = args.expect("valid options");
    assert_eq!(
        (args.balloon, args.hot_cache),
        (Some(BalloonTarget::Bytes(1 << 30)), Some(Bytes(64 << 20)))
    );
    assert_eq!((args.compact_background, args.movability), (Background(None), Movability::Off));
    assert_eq!(
        serve(&["--balloon", "auto"]).map(|args| args.balloon),
        Ok(Some(BalloonTarget::Auto))
    );
    assert_eq!(
        (usual.balloon_pressure, serve(&["--balloon-pressure", "100:0"]).is_ok()),
        (None, false)
    );
    assert!(serve(&["--balloon", "auto", "--balloon-pressure", "100:0"]).is_ok());
    for junk in ["10", "1:10", "5:5", "101:1", "10:-1", "10:1:1", ":", "ten:one", ""] {
        let refused = serve(&[&format!("--balloon-pressure={junk}")]).err();
        assert!(matches!(refused, Some(ValueValidation | InvalidValue)), "{junk}: {refused:?}");
    }
    for junk in ["-1", "0", "some", "off"] {
        assert_eq!(serve(&[&format!("--balloon={junk}")]).err(), Some(ValueValidation), "{junk}");
        let refused = maintenance_args::balloon(junk);
        assert!(refused.is_err_and(|text| text.contains("\"auto\" or a size")), "{junk}");
    }
    for junk in ["0", "101", "-3", "10.5", "on", ""] {
        assert_eq!(
            serve(&[&format!("--compact-background={junk}")]).err(),
            Some(ValueValidation),
            "{junk}"
        );
    }
    assert_eq!(serve(&["--movability", "maybe"]).err(), Some(ValueValidation));
    assert_eq!(serve(&["--hot-cache", "0"]).err(), Some(ValueValidation));
}

#[test]
fn limits_of_clients_have_defaults_and_refuse_junk() {
    let usual = serve(&[]).expect("no option is needed");
    let library = nbd::ServerConfig::default();
    assert_eq!(
        (usual.max_connections as usize, usual.idle_timeout),
        (library.max_connections, None)
    );
    assert_eq!(usual.handshake_timeout, library.handshake_timeout);
    assert_eq!(
        (usual.send_timeout, usual.shutdown_grace),
        (library.send_timeout, library.shutdown_grace)
    );
    let args = serve(&[
        "--allow-uid",
        "7",
        "--allow-uid",
        "8",
        "--socket-mode",
        "0666",
        "--idle-timeout",
        "500ms",
    ]);
    let args = args.expect("valid options");
    assert_eq!((args.allow_uid, args.socket_mode), (vec![7, 8], Some(0o666)));
    assert_eq!(args.idle_timeout, Some(Duration::from_millis(500)));
    for junk in [
        ["--socket-mode", "8"],
        ["--socket-mode", "1777"],
        ["--allow-uid", "root"],
        ["--allow-uid", "4294967295"],
        ["--max-connections", "0"],
        ["--max-connections", "many"],
        ["--send-timeout", "soon"],
        ["--send-timeout", "0"],
        ["--idle-timeout", "0s"],
        ["--handshake-timeout", "0ms"],
        ["--port", "65536"],
    ] {
        assert!(serve(&junk).is_err(), "{junk:?}");
    }
    assert!(serve(&["--port", "0", "--socket-mode", "600"]).is_err());
    assert_eq!(
        serve(&["--shutdown-grace", "0"]).map(|args| args.shutdown_grace),
        Ok(Duration::ZERO)
    );
    assert_eq!(number::<u8>(1..=16)("17"), Err("a whole number from 1 to 16 is needed".into()));
    assert!(address("localhost").is_err_and(|text| text.contains("such as")));
}

#[test]
fn contradictions_and_junk_are_usage_errors() {
    use clap::error::ErrorKind::{ArgumentConflict, MissingRequiredArgument, ValueValidation};
    assert_eq!(serve(&["--unix", "/x", "--port", "1"]).err(), Some(ArgumentConflict));
    assert_eq!(serve(&["--bind", "0.0.0.0"]).err(), Some(MissingRequiredArgument));
    assert_eq!(serve(&["--size", "0"]).err(), Some(ValueValidation));
    assert_eq!(serve(&["--size", "lots"]).err(), Some(ValueValidation));
    assert_eq!(serve(&["--algorithm", "zip"]).err(), Some(ValueValidation));
    assert_eq!(serve(&["--algorithm", "zstd:99"]).err(), Some(ValueValidation));
    assert_eq!(serve(&["--chain", "17"]).err(), Some(ValueValidation));
    assert_eq!(serve(&["--port", "70000"]).err(), Some(ValueValidation));
}
