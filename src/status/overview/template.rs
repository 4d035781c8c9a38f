//! Fills in a template: a small part of Mustache.
//!
//! `{{name}}` is a text, which is escaped for HTML. `{{#name}}...{{/name}}` is repeated for
//! each row of a list, whose own names come first. `{{^name}}...{{/name}}` appears if the list
//! is empty.

use std::fmt::Display;

enum Value {
    Text(String),
    Rows(Vec<Fields>),
}

/// The values by name.
#[derive(Default)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    pub fn text(mut self, name: &'static str, text: impl Display) -> Fields {
        self.0.push((name, Value::Text(text.to_string())));
        self
    }

    pub fn rows(mut self, name: &'static str, rows: impl IntoIterator<Item = Fields>) -> Fields {
        let rows = rows.into_iter().collect();
        self.0.push((name, Value::Rows(rows)));
        self
    }

    fn find(&self, name: &str) -> Option<&Value> {
        let mut fields = self.0.iter();
        fields.find_map(|(known, value)| (*known == name).then_some(value))
    }
}

/// Fills in a template. A name without a value is left out.
pub(super) fn render(template: &str, fields: &Fields) -> String {
    let mut out = String::new();
    part(template, &[fields], &mut out);
    out
}

/// `scopes` has the fields, the innermost first.
fn part(mut template: &str, scopes: &[&Fields], out: &mut String) {
    while let Some((before, rest)) = template.split_once("{{") {
        out.push_str(before);
        let (tag, rest) = rest.split_once("}}").unwrap_or((rest, ""));
        template = rest;
        let name = tag.trim_start_matches(['#', '^']);
        let value = scopes.iter().find_map(|fields| fields.find(name));
        debug_assert!(value.is_some(), "{name}");
        if name == tag {
            if let Some(Value::Text(text)) = value {
                escape(text, out);
            }
            continue;
        }
        let end = format!("{{{{/{name}}}}}");
        let (inner, rest) = rest.split_once(&end).unwrap_or((rest, ""));
        template = rest;
        let Some(Value::Rows(rows)) = value else {
            continue;
        };
        if tag.starts_with('#') {
            for row in rows {
                part(inner, &[&[row], scopes].concat(), out);
            }
        } else if rows.is_empty() {
            part(inner, scopes, out);
        }
    }
    out.push_str(template);
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_rows_repeated() {
        let row = |text| Fields::default().text("a", text);
        let fields = Fields::default()
            .text("a", "<script>\"'&{{b}}")
            .text("b", 1)
            .rows("some", [row("x"), row("<y>")])
            .rows("none", []);
        for (template, expected) in [
            ("", ""),
            ("plain } {", "plain } {"),
            ("[{{a}}]", "[&lt;script&gt;&quot;&#39;&amp;{{b}}]"),
            ("{{#some}}{{a}}{{b}},{{/some}}{{b}}", "x1,&lt;y&gt;1,1"),
            (
                "{{#none}}{{a}}{{/none}}{{^none}}no {{b}}{{/none}}.",
                "no 1.",
            ),
            ("{{^some}}no{{/some}}", ""),
        ] {
            assert_eq!(render(template, &fields), expected, "{template}");
        }
    }
}
