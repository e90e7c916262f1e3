// Answers every request with its target, and says what it saw: method, target, octets of the body.
const http = require('node:http');

const say = (...words) => process.stdout.write(Buffer.from(`${words.join(' ')}\n`, 'latin1'));

const refused = new WeakSet();
const server = http.createServer((request, answer) => {
  let body = 0;
  request.on('data', (piece) => (body += piece.length));
  request.on('end', () => {
    say(request.method, request.url, body);
    answer.end(request.url);
  });
  request.on('error', () => say(request.method, request.url, '-'));
});
server.on('upgrade', (request, socket) => {
  say(request.method, request.url, 0);
  socket.on('error', () => {});
  socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n');
});
server.on('clientError', (error, socket) => {
  // Once: what comes behind is refused as well, wherever it is cut.
  if (error.rawPacket && error.code !== 'HPE_INVALID_EOF_STATE' && !refused.has(socket)) {
    refused.add(socket);
    say(error.rawPacket.toString('latin1').split('\r\n')[0], '-');
  }
  socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
});
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), '127.0.0.1');
