//! URLs of backups as requests name them.

use convoy_objectstore::split;

/// Gives what stands before `://`.
pub(super) fn scheme(url: &str) -> &str {
    split(url).0
}

/// Gives a URL as it was before it was printed as JSON: in what separates its parameters, `\u0026` and `u0026`
/// (a shell took the backslash) are `&`. A volume or a directory may have `u0026` in its name: nothing else is
/// touched.
pub(super) fn plain_url(url: &str) -> String {
    let url = url.replace("\\u0026", "&");
    let Some((destination, query)) = url.split_once('?') else { return url };
    if query.contains('&') {
        return url;
    }
    let query = ["volume=", "backup="]
        .iter()
        .find_map(|key| {
            let (before, after) = query.split_once(&format!("u0026{key}"))?;
            Some(format!("{before}&{key}{after}"))
        })
        .unwrap_or_else(|| query.to_owned());
    format!("{destination}?{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms_of_an_ampersand() {
        let plain = "vfs:///b?backup=backup-1&volume=vol1";
        for form in
            [plain, "vfs:///b?backup=backup-1\\u0026volume=vol1", "vfs:///b?backup=backup-1u0026volume=vol1"]
        {
            assert_eq!(plain_url(form), plain);
        }
        for untouched in ["vfs:///bku0026x/", "vfs:///b?backup=backup-1&volume=au0026b", "vfs:///b", ""] {
            assert_eq!(plain_url(untouched), untouched);
        }
        assert_eq!(
            plain_url("vfs:///bu0026x?backup=backup-1u0026volume=au0026b"),
            "vfs:///bu0026x?backup=backup-1&volume=au0026b"
        );
    }
}
