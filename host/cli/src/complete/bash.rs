//! Bash. It hands over a line in pieces, cut at `:`, `=`, `@` and the like too, and puts what it is answered
//! in the place of the last piece. So that URLs can be completed, the script hands over the line as a whole.

use clap_complete::env::EnvCompleter;
use std::ffi::OsString;
use std::io::{Error, Write};
use std::path::Path;

const LINE: &str = "_CONVOY_LINE";
const BREAKS: &str = "_CONVOY_BREAKS";

const SCRIPT: &str = r#"_convoy() {
    local IFS=$'\n'
    COMPREPLY=($(_CONVOY_LINE="${COMP_LINE:0:COMP_POINT}" _CONVOY_BREAKS="$COMP_WORDBREAKS" \
        VARIABLE=bash COMPLETER -- "${COMP_WORDS[@]}" 2>/dev/null))
    if [[ "${COMPREPLY-}" =~ [=/:]$ ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o bashdefault -F _convoy BIN
"#;

pub(super) struct Bash;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == "bash"
    }

    fn write_registration(
        &self,
        var: &str,
        _name: &str,
        bin: &str,
        completer: &str,
        buf: &mut dyn Write,
    ) -> Result<(), Error> {
        let script = SCRIPT.replace("VARIABLE", var).replace("COMPLETER", completer).replace("BIN", bin);
        buf.write_all(script.as_bytes())
    }

    fn write_complete(
        &self,
        cmd: &mut clap::Command,
        _args: Vec<OsString>,
        current_dir: Option<&Path>,
        buf: &mut dyn Write,
    ) -> Result<(), Error> {
        let said = |name| std::env::var(name).unwrap_or_default();
        let (words, last) = split(&said(LINE), &said(BREAKS));
        let index = words.len() - 1;
        let nothing_typed = words.last().is_none_or(String::is_empty);
        let words = words.into_iter().map(OsString::from).collect();
        let found = clap_complete::engine::complete(cmd, words, index, current_dir)?;
        let values: Vec<&str> = found.iter().filter_map(|candidate| candidate.get_value().to_str()).collect();
        // Where names can stand, flags are for who has typed a dash.
        let names = nothing_typed && values.iter().any(|value| !value.starts_with('-'));
        for value in values.into_iter().filter(|value| !names || !value.starts_with('-')) {
            let Some(rest) = value.get(last.kept..) else { continue };
            writeln!(buf, "{}", if last.quote.is_some() { rest.to_owned() } else { escaped(rest) })?;
        }
        Ok(())
    }
}

/// How bash sees the word that the cursor is in.
#[derive(Debug, Default, PartialEq, Eq)]
struct Last {
    quote: Option<char>,
    /// Bytes of it, without quotes, that stay: bash replaces what comes after the last letter that cuts
    /// words.
    kept: usize,
}

/// The words of the line up to the cursor, without their quotes; the last is what is to be completed, maybe
/// empty.
fn split(line: &str, breaks: &str) -> (Vec<String>, Last) {
    let (mut words, mut word, mut begun, mut last) = (Vec::new(), String::new(), false, Last::default());
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (last.quote, letter) {
            (Some(quote), letter) if letter == quote => last.quote = None,
            (None, '\'' | '"') => last = Last { quote: Some(letter), kept: word.len() },
            (None | Some('"'), '\\') => word.extend(letters.next()),
            (None, letter) if letter.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                (begun, last) = (false, Last::default());
                continue;
            }
            (None, letter) => {
                word.push(letter);
                if breaks.contains(letter) {
                    last.kept = word.len();
                }
            }
            (Some(_), letter) => word.push(letter),
        }
        begun = true;
    }
    words.push(word);
    (words, last)
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if !letter.is_alphanumeric() && !"-_./:=@%+,".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKS: &str = " \t\n\"'@><=;|&(:";

    #[test]
    fn a_line_is_split_as_bash_splits_it() {
        let last = |line: &str| {
            let (words, last) = split(line, BREAKS);
            (words.join("|"), last.quote, last.kept)
        };
        for (line, words, quote, kept) in [
            ("convoy ", "convoy|", None, 0),
            ("convoy inspect da", "convoy|inspect|da", None, 0),
            ("convoy x vfs:///srv/b", "convoy|x|vfs:///srv/b", None, 4),
            (r"convoy x vfs:///b\?backup=b1\&vol", "convoy|x|vfs:///b?backup=b1&vol", None, 16),
            ("convoy x 'vfs:///b?backup=b1&vol", "convoy|x|vfs:///b?backup=b1&vol", Some('\''), 0),
            ("convoy x --dest=vfs:///b", "convoy|x|--dest=vfs:///b", None, 11),
            ("convoy x 'a b' c", "convoy|x|a b|c", None, 0),
        ] {
            assert_eq!(last(line), (words.to_owned(), quote, kept), "{line}");
        }
        assert_eq!(escaped("vfs:///b?backup=b1&volume=a b"), r"vfs:///b\?backup=b1\&volume=a\ b");
    }
}
