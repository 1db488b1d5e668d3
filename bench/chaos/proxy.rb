# frozen_string_literal: true

require "socket"

module Chaos
  # A door to the server over TCP that misbehaves as networks do. It can cut connections, delay what passes, and let
  # connections fall silent: what the server answers is swallowed while both sides believe that all is well.
  class Proxy
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

    # Seconds by which everything is late from here on.
    attr_writer :delay

    # @return [Integer] how many connections were cut
    def cut = each_connection { |client, server| close(client, server) }

    # What the server answers over the connections that are open is swallowed, until somebody closes them.
    # @return [Integer] how many connections fell silent
    def silence = each_connection { |client, _| @lock.synchronize { @connections[client][:silent] = true } }

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
      # Silent, it stays open although the server has gone.
      asking.join if @connections.dig(client, :silent)
    rescue SystemCallError
      nil # the server is down, as it may be
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
