//! The text of `lkm run`.

use std::fmt::Write;

use super::report::LogLine;
use super::report::Number;
use super::report::Outcome;
use super::report::RunReport;
use crate::style::Palette;
use crate::style::Role;
use crate::terminal::printable;

/// Renders a report. `quiet` leaves only what the module logged and what went wrong.
pub(crate) fn render(report: &RunReport, quiet: bool, palette: Palette) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = if quiet {
        render_quiet(&mut text, report, palette)
    } else {
        render_full(&mut text, report, palette)
    };
    text
}

fn render_quiet(out: &mut String, report: &RunReport, palette: Palette) -> std::fmt::Result {
    for line in &report.log {
        log_line(out, line, palette)?;
    }
    problems(out, report, palette)
}

fn render_full(out: &mut String, report: &RunReport, palette: Palette) -> std::fmt::Result {
    let strong = |text: &str| palette.paint(Role::Strong, printable(text)).to_string();
    write!(out, "{} in an embedded {} ({})", strong(&report.module), report.profile, report.architecture)?;
    if report.compression != "uncompressed" {
        write!(out, ", file compressed by {}", report.compression)?;
    }
    writeln!(out)?;
    for dependency in &report.dependencies {
        writeln!(out, "  depends on {} ({})", printable(&dependency.module), printable(&dependency.file))?;
    }

    writeln!(out, "\n{}", strong("Stages"))?;
    for stage in report.stages.iter().filter(|stage| stage.module == report.module) {
        let mark = match &stage.error {
            None => palette.paint(Role::Good, "ok".to_owned()),
            Some(error) => palette.paint(Role::Bad, error.name.to_owned()),
        };
        let numbers: Vec<String> = stage.numbers.iter().map(number).collect();
        let pad = " ".repeat(8usize.saturating_sub(stage.error.as_ref().map_or(2, |error| error.name.len())));
        let line = format!("  {:<28} {mark}{pad}{}", stage.stage, numbers.join(", "));
        writeln!(out, "{}", line.trim_end())?;
    }

    writeln!(out, "\n{}", strong("Kernel log"))?;
    if report.log.is_empty() {
        writeln!(out, "  {}", palette.paint(Role::Faint, "(nothing was logged)"))?;
    }
    for line in &report.log {
        write!(out, "  ")?;
        log_line(out, line, palette)?;
    }

    if let Some(line) = &report.proc_modules {
        writeln!(out, "\n{}\n  {}", strong("/proc/modules while loaded"), printable(line))?;
    }
    if !report.parameters.is_empty() {
        writeln!(out, "\n{}", strong("Parameters"))?;
        for parameter in &report.parameters {
            let value = match &parameter.value {
                Some(value) => printable(value.trim_end_matches('\n')),
                None => palette.paint(Role::Faint, "(not readable)").to_string(),
            };
            writeln!(out, "  {} = {value}", printable(&parameter.name))?;
        }
    }
    if !report.registrations.is_empty() {
        writeln!(out, "\n{}", strong("Registered while loaded"))?;
        for registration in &report.registrations {
            writeln!(out, "  {} {}", printable(&registration.kind), printable(&registration.name))?;
        }
    }
    if !report.unimplemented_imports.is_empty() {
        writeln!(
            out,
            "\n{}\n  {}",
            strong("Imports without code in the embedded kernel (calling one ends the run)"),
            printable(&report.unimplemented_imports.join(" "))
        )?;
    }

    writeln!(out)?;
    problems(out, report, palette)?;
    if report.success {
        let verdict = "loaded, started, removed; nothing left behind";
        writeln!(
            out,
            "{}: {verdict} ({:.1} ms)",
            palette.paint(Role::Good, "ok"),
            report.microseconds as f64 / 1000.0
        )?;
    }
    Ok(())
}

fn problems(out: &mut String, report: &RunReport, palette: Palette) -> std::fmt::Result {
    for name in &report.missing_dependencies {
        let warning = palette.paint(Role::Warn, "warning");
        writeln!(
            out,
            "{warning}: the module '{}', which it depends on, was found nowhere; name its folder with --modules",
            printable(name)
        )?;
    }
    for oops in &report.oopses {
        writeln!(out, "{}", palette.paint(Role::Bad, "fault"))?;
        for line in oops.lines() {
            writeln!(out, "  {}", printable(line))?;
        }
    }
    failure(out, "load", &report.load, palette)?;
    if let Some(unload) = &report.unload {
        failure(out, "unload", unload, palette)?;
    }
    if !report.left_behind.is_empty() {
        writeln!(out, "{}: the module left behind", palette.paint(Role::Bad, "error"))?;
        for thing in &report.left_behind {
            writeln!(out, "  {}", printable(thing))?;
        }
    }
    Ok(())
}

fn failure(out: &mut String, what: &str, outcome: &Outcome, palette: Palette) -> std::fmt::Result {
    if outcome.ok {
        return Ok(());
    }
    write!(out, "{}: {what} failed", palette.paint(Role::Bad, "error"))?;
    if let Some(stage) = outcome.stage {
        write!(out, " in {stage}")?;
    }
    if let Some(error) = &outcome.error {
        match error.name {
            "" => write!(out, ": errno {} ({})", error.number, error.text)?,
            name => write!(out, ": {name} ({})", error.text)?,
        }
    }
    writeln!(out)?;
    if let Some(cause) = &outcome.cause {
        writeln!(out, "  cause: {}", printable(cause))?;
    }
    Ok(())
}

fn log_line(out: &mut String, line: &LogLine, palette: Palette) -> std::fmt::Result {
    let role = match line.level {
        0..=3 => Some(Role::Bad),
        4 => Some(Role::Warn),
        5 => Some(Role::Strong),
        7 => Some(Role::Faint),
        _ => None,
    };
    for part in line.text.lines() {
        let part = printable(part);
        let time = palette.paint(Role::Faint, format!("[{:12.6}]", line.seconds));
        match role {
            Some(role) => writeln!(out, "<{}>{time} {}", line.level, palette.paint(role, part))?,
            None => writeln!(out, "<{}>{time} {part}", line.level)?,
        }
    }
    Ok(())
}

fn number(number: &Number) -> String {
    match number.unit {
        "address" => format!("{} {:#x}", number.name, number.value),
        "bytes" => format!("{} {} bytes", number.name, number.value),
        _ => format!("{} {}", number.value, number.name),
    }
}
