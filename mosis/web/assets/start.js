"use strict";
// Shows /openapi.json. The nonce lets Redoc add its styles under the page's policy.
Redoc.init("openapi.json", {nonce: document.currentScript.nonce, expandResponses: "200,201", hideDownloadButton: false},
  document.getElementById("api"));
