//! What a driver's executable says to a person who runs it.

use crate::protocol::{Description, OptionSpec};
use std::fmt::Write;

/// Prints what the driver is and how it is used.
pub(super) fn explain(description: &Description) {
    let program = std::env::args().next().unwrap_or_default();
    print!("{}", text(description, &program));
}

fn text(description: &Description, program: &str) -> String {
    let mut text = format!(
        "This is a convoy driver, started by the convoy daemon and not by hand.\n\n\
         name          {}\nversion       {}\nsummary       {}\nprotocol      {}\ncapabilities  {}\n",
        description.name,
        description.version,
        description.summary,
        crate::PROTOCOL_VERSION,
        capabilities(description),
    );
    options(&mut text, "options of the driver (--driver-opts NAME=VALUE)", &description.options);
    options(&mut text, "options of a volume (convoy create --opt NAME=VALUE)", &description.create_options);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\nTo use it:\n  install -o root -m 755 {program} /usr/lib/convoy/drivers/convoy-driver-{name}\n  \
         convoy daemon --drivers {name}\n",
        name = description.name,
    );
    text
}

fn capabilities(description: &Description) -> String {
    let names =
        description.capabilities.iter().filter_map(|capability| serde_json::to_value(capability).ok());
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect::<Vec<_>>().join(", ")
}

fn options(text: &mut String, title: &str, options: &[OptionSpec]) {
    if options.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}:");
    let width = options.iter().map(|option| option.name.len()).max().unwrap_or_default();
    for OptionSpec { name, help, default, required, .. } in options {
        let note = match default {
            Some(default) => format!(" (default {default})"),
            None if *required => " (required)".to_owned(),
            None => String::new(),
        };
        let _ = writeln!(text, "  {name:width$}  {help}{note}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Capability;

    #[test]
    fn says_what_it_is_and_how_to_install_it() {
        let description = Description::new("demo", "1.2", "volumes for a demonstration")
            .capabilities([Capability::Sized, Capability::Snapshots].into())
            .options(vec![OptionSpec::new("demo.path", "where it keeps them").default_value("/srv")])
            .create_options(vec![OptionSpec::new("type", "which kind")]);
        let text = text(&description, "./convoy-driver-demo");
        for part in [
            "demo.path  where it keeps them (default /srv)",
            "snapshots, sized",
            "/usr/lib/convoy/drivers/convoy-driver-demo",
            "--drivers demo",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
