"use strict";
// Shows /openapi.json in the colours of the pages. The nonce lets Redoc add its styles under the page's policy.
const scheme = matchMedia("(prefers-color-scheme: dark)");
const dark = scheme.matches;
const font = "system-ui, 'Segoe UI', Roboto, Oxygen, Ubuntu, Cantarell, Helvetica, Arial, sans-serif";
const theme = {
  typography: {
    fontFamily: font, fontSize: "16px", headings: {fontFamily: font, fontWeight: "600"}, smoothing: "auto",
    code: {
      fontSize: "14px", wrap: true, color: dark ? "#ce7e7b" : "#b01c3a", backgroundColor: dark ? "#202632" : "#f3f5f7",
    },
  },
  colors: {
    primary: {main: dark ? "#01aaff" : "#0172ad"},
    text: {primary: dark ? "#c2c7d0" : "#373c44", secondary: dark ? "#8891a4" : "#646b79"},
    border: {dark: dark ? "#2f3747" : "#d8dde5", light: dark ? "#202632" : "#e7eaf0"},
    success: {main: dark ? "#3fb27f" : "#1d6b45"},
    error: {main: dark ? "#ee8a84" : "#b3261e"},
    gray: {50: dark ? "#181c25" : "#fbfcfc", 100: dark ? "#202632" : "#f3f5f7"},
  },
  schema: {nestedBackground: dark ? "#181c25" : "#fbfcfc", typeNameColor: dark ? "#a3acbb" : "#5c6470"},
  sidebar: {backgroundColor: dark ? "#181c25" : "#fbfcfc", textColor: dark ? "#c2c7d0" : "#373c44"},
  rightPanel: {backgroundColor: dark ? "#0d1017" : "#202632"},
};
const options = {nonce: document.currentScript.nonce, expandResponses: "200,201", hideDownloadButton: false, theme};
Redoc.init("openapi.json", options, document.getElementById("api"));
scheme.addEventListener("change", () => location.reload());
