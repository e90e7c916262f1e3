// The set-up token comes first: it is taken out of the address before the router reads it.
import "./setup-token";
import { mount } from "svelte";
import "$lib/styles/tokens.css";
import "$lib/styles/base.css";
import "$lib/styles/parts.css";
import App from "./App.svelte";

const target = document.getElementById("app");
if (target) mount(App, { target });
