// Every page of the console: its address, its component, and its place in the menu.
import type { Component } from "svelte";
import Alerts from "./pages/Alerts.svelte";
import Audit from "./pages/Audit.svelte";
import Authorities from "./pages/Authorities.svelte";
import Authority from "./pages/Authority.svelte";
import Certificate from "./pages/Certificate.svelte";
import Certificates from "./pages/Certificates.svelte";
import Devices from "./pages/Devices.svelte";
import Health from "./pages/Health.svelte";
import Jobs from "./pages/Jobs.svelte";
import Overview from "./pages/Overview.svelte";
import People from "./pages/People.svelte";
import Person from "./pages/Person.svelte";
import Profiles from "./pages/Profiles.svelte";
import Routes from "./pages/Routes.svelte";
import Settings from "./pages/Settings.svelte";
import Sites from "./pages/Sites.svelte";
import Tokens from "./pages/Tokens.svelte";
import Upstreams from "./pages/Upstreams.svelte";

export interface PageEntry {
  path: string;
  component: Component;
}

export const PAGES: PageEntry[] = [
  { path: "/", component: Overview },
  { path: "/alerts", component: Alerts },
  { path: "/health", component: Health },
  { path: "/sites", component: Sites },
  { path: "/routes", component: Routes },
  { path: "/upstreams", component: Upstreams },
  { path: "/people", component: People },
  { path: "/people/:id", component: Person },
  { path: "/devices", component: Devices },
  { path: "/certificates", component: Certificates },
  { path: "/certificates/:serial", component: Certificate },
  { path: "/authorities", component: Authorities },
  { path: "/authorities/:name", component: Authority },
  { path: "/profiles", component: Profiles },
  { path: "/jobs", component: Jobs },
  { path: "/audit", component: Audit },
  { path: "/tokens", component: Tokens },
  { path: "/settings", component: Settings },
];

export interface MenuGroup {
  title: string;
  links: { path: string; label: string }[];
}

export const MENU: MenuGroup[] = [
  {
    title: "Watch",
    links: [
      { path: "/", label: "Overview" },
      { path: "/alerts", label: "Alerts" },
      { path: "/health", label: "Health" },
      { path: "/audit", label: "Audit" },
      { path: "/jobs", label: "Jobs" },
    ],
  },
  {
    title: "Gate",
    links: [
      { path: "/sites", label: "Sites" },
      { path: "/routes", label: "Routes" },
      { path: "/upstreams", label: "Upstreams" },
    ],
  },
  {
    title: "Who may pass",
    links: [
      { path: "/people", label: "People" },
      { path: "/devices", label: "Devices" },
      { path: "/certificates", label: "Certificates" },
      { path: "/profiles", label: "Profiles" },
      { path: "/authorities", label: "Authorities" },
    ],
  },
  {
    title: "House",
    links: [
      { path: "/tokens", label: "API tokens" },
      { path: "/settings", label: "Settings" },
    ],
  },
];
