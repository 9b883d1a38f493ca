//! What an experiment needs and this machine lacks.

/// The reason why an experiment cannot run on this machine.
#[derive(Debug)]
pub(crate) struct Missing(pub String);

impl std::error::Error for Missing {}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
