# frozen_string_literal: true

require "socket"

module Chaos
  # A TCP proxy of the server that simulates network faults. It can cut connections, delay data, and silence
  # connections: it discards the server's responses, while the connection stays open on both sides.
  class Proxy
    # After how many seconds a client's kernel closes a silenced connection, with the keepalives of docs/scaling.md.
    KEEPALIVES = 25

    # @return [Integer] the port on 127.0.0.1
    attr_reader :port

    # @param socket [String] path of the server's Unix socket
    def initialize(socket)
      @socket = socket
      @server = TCPServer.new("127.0.0.1", 0)
      @port = @server.local_address.ip_port
      @connections = {}
      @lock = Mutex.new
      @delay = 0
      Thread.new { accept }
    end

    # Delay of all data from now on, in seconds.
    attr_writer :delay

    # @return [Integer] the number of connections that were cut
    def cut = each_connection { |client, server| close(client, server) }

    # Discards the server's responses on all open connections, until a side closes them. The proxy acknowledges the
    # probes of the client's kernel, which a silent network does not, so it closes the connections when they would fail.
    # @return [Integer] the number of silenced connections
    def silence
      each_connection do |client, server|
        @lock.synchronize { @connections[client]&.store(:silent, true) }
        Thread.new { sleep(KEEPALIVES) && close(client, server) }
      end
    end

    private

    def each_connection(&block)
      open = @lock.synchronize { @connections.map { |client, facts| [client, facts[:server]] } }
      open.each(&block).size
    end

    def accept
      loop do
        client = @server.accept
        client.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
        Thread.new { carry(client) }
      end
    end

    def carry(client)
      server = UNIXSocket.new(@socket)
      @lock.synchronize { @connections[client] = { server: server, silent: false } }
      asking = Thread.new { pass(client, server) { true } }
      pass(server, client) { !@connections.dig(client, :silent) }
      # A silenced connection stays open, even if the server has closed it.
      asking.join if @connections.dig(client, :silent)
    rescue SystemCallError
      nil # the server is down because of another fault
    ensure
      @lock.synchronize { @connections.delete(client) }
      close(client, server)
      asking&.join
    end

    def pass(from, to)
      loop do
        data = from.readpartial(65_536)
        sleep @delay if @delay.positive?
        to.write(data) if yield
      end
    rescue IOError, SystemCallError
      close(to) if yield
    end

    def close(*sockets)
      sockets.compact.each do |socket|
        socket.close
      rescue IOError, SystemCallError
        nil # it was closed at the same time
      end
    end
  end
end
