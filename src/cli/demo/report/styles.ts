/** Style of the report: light or dark as the reader's system is, nothing loaded from anywhere. */
export const styles = `
:root { color-scheme: light dark;
  --paper: #fdfdfb; --ink: #1d2530; --soft: #5b6675; --line: #dfe3e8; --card: #f3f5f7;
  --alone: #6b8fb3; --contended: #d0583f; --sculpted: #2c9a72; --restored: #a9863a; --second: #b7c3d0; --on-second: #1d2530; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14181d; --ink: #e4e8ed; --soft: #97a3b1; --line: #2c343d; --card: #1c222a;
  --alone: #7ea6cf; --contended: #e5745c; --sculpted: #45b98d; --restored: #cfa94f; --second: #46535f; --on-second: #e4e8ed; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 21px; margin: 0 0 8px; }
h3 { font-size: 15px; margin: 28px 0 4px; }
.meta, .note, footer { color: var(--soft); font-size: 14px; margin: 0 0 8px; }
section { margin-top: 44px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(185px, 1fr)); gap: 12px; margin-top: 28px; }
.cards div { background: var(--card); border-radius: 10px; padding: 16px; }
.cards b { display: block; font-size: 19px; white-space: nowrap; letter-spacing: -.01em; }
.cards span { color: var(--soft); font-size: 14px; }
.failures { background: var(--contended); color: #fff; padding: 16px 32px; border-radius: 10px; }
svg { width: 100%; height: auto; display: block; margin-top: 6px; }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
svg .name, svg .value { font-size: 13px; fill: var(--ink); }
svg .value { font-weight: 600; }
svg .grid { stroke: var(--line); }
svg .band { opacity: .13; } svg .phase { font-weight: 600; }
svg .alone { fill: var(--alone); } svg .contended { fill: var(--contended); }
svg .control { fill: var(--alone); }
svg .sculpted { fill: var(--sculpted); } svg .restored { fill: var(--restored); }
svg .range { stroke: var(--soft); opacity: .45; } svg .worst { fill: var(--ink); }
svg .median { stroke: var(--paper); stroke-width: 2; }
svg .part0 { fill: var(--sculpted); } svg .part1 { fill: var(--second); }
svg .inside { fill: var(--on-second); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin-top: 10px; font-size: 14px; }
th, td { text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; }
.figures td:not(:first-child), .figures th:not(:first-child) { text-align: right; font-variant-numeric: tabular-nums; }
.facts td:first-child { color: var(--soft); white-space: nowrap; width: 130px; }
.weighed td:nth-child(-n+3) { white-space: nowrap; }
code { font-size: 13px; overflow-wrap: anywhere; }
footer { border-top: 1px solid var(--line); margin-top: 48px; padding-top: 12px; }
`;
