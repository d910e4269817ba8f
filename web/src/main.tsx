import { render } from "preact";

import "./styles/base.css";
import "./styles/controls.css";
import "./styles/shell.css";
import "./styles/overview.css";
import "./styles/incident.css";
import "./styles/probes.css";
import "./styles/drills.css";

import { App } from "./app";

const root = document.getElementById("app");
if (root) render(<App />, root);
