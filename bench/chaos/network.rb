# frozen_string_literal: true

require "open3"

module Chaos
  # A network of machines: network namespaces, each with one link to a bridge, which is in a namespace of its own. The
  # namespaces have no names, so nothing remains of them when the campaign and its programs have ended.
  class Network
    # Namespaces cannot be used; the message is one sentence.
    class Unavailable < StandardError; end

    DOMAIN = "chaos.test"
    # The name of a virtual address, which the machine of the current primary has.
    SERVICE = "database.#{DOMAIN}".freeze
    # The first numbers of all addresses.
    PREFIX = "10.77.0"
    VIRTUAL = "#{PREFIX}.10/24".freeze
    PROGRAMS = { "ip" => "iproute2", "nsenter" => "util-linux", "unshare" => "util-linux" }.freeze
    private_constant :VIRTUAL, :PROGRAMS

    # A machine: namespaces for its network, its host name and its /etc/hosts.
    class Machine
      # @return [String] "host-1"
      attr_reader :name

      # @param hosts [String] path of the file that replaces /etc/hosts
      def initialize(name, hosts: "/etc/hosts")
        @name = name
        setup = "hostname #{name} && mount --bind '#{hosts}' /etc/hosts && ip link set lo up && echo ready && exec cat"
        @holder = IO.popen(["unshare", "--net", "--mount", "--uts", "sh", "-c", setup, { err: %i[child out] }], "r+")
        words = @holder.gets.to_s.strip
        raise Unavailable.new("network namespaces cannot be created here: #{words}") unless words == "ready"
      end

      # @return [String] the name that certificates have
      def domain_name = "#{name}.#{DOMAIN}"

      # @return [Array<String>] the start of a command that runs a program on this machine
      def prefix = ["nsenter", "--target=#{pid}", "--net", "--mount", "--uts", "--"]

      # @return [Integer] the process that keeps the namespaces
      def pid = @holder.pid

      # Runs a program on this machine, which should succeed.
      # @raise [Unavailable] with its last words
      def run(*command)
        output, status = Open3.capture2e(*prefix, *command)
        return if status.success?

        raise Unavailable.new("#{command.join(' ')} failed: #{output.strip.lines.last.to_s.strip}")
      end

      # Links it to the bridge of another machine.
      # @param address [String] numeric, with the length of the network's prefix
      def connect(hub, address)
        @hub = hub
        run(*%W[ip link add eth0 address #{hardware_address} type veth peer name #{name} netns #{hub.pid}])
        run(*%W[ip address add #{address} dev eth0])
        run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_notify")
        reconnect
      end

      # @param way [:link_down, :drop_packets] its own link is down, which its programs notice; or the network drops
      #   its packets in both directions without any notice
      def cut_off(way)
        @is_cut_off = true
        way == :link_down ? run(*%w[ip link set eth0 down]) : @hub.run(*%W[ip link set #{name} nomaster])
      end

      def reconnect
        @hub.run(*%W[ip link set #{name} master bridge up])
        run(*%w[ip link set eth0 up])
        @is_cut_off = false
      end

      # Announces its addresses to the network (gratuitous ARP).
      def announce = run(*%W[ip link set eth0 address #{hardware_address}])

      # @return [Boolean]
      def cut_off? = @is_cut_off || false

      def stop = @holder.close

      private

      def hardware_address = format("02:00:%02x:%02x:%02x:%02x", *[pid].pack("N").bytes)
    end

    # @param directory [String] for a file
    # @param hosts [Integer] number of machines for workers
    # @yieldparam network [Network]
    # @raise [Unavailable]
    def self.run(directory, hosts:)
      verify
      network = new(directory, hosts)
      yield network
    ensure
      network&.stop
    end

    # @raise [Unavailable] without root, without a program, or where namespaces are not permitted
    def self.verify
      raise Unavailable.new("hosts in network namespaces need root: run the command as root") unless Process.uid.zero?

      directories = ENV.fetch("PATH").split(File::PATH_SEPARATOR)
      PROGRAMS.each do |program, package|
        next if directories.any? { |directory| File.executable?("#{directory}/#{program}") }

        raise Unavailable.new("`#{program}` was not found: install it with `apt-get install #{package}`")
      end
      Machine.new("probe").stop
    end

    # @return [Array<Machine>] those for workers; those for database servers
    attr_reader :hosts, :servers

    def initialize(directory, count)
      addresses = { **numbered("server", 2, 11), **numbered("host", count, 21) }
      names = "#{directory}/hosts"
      File.write(names, lines(addresses).join)
      @hub = Machine.new("hub")
      @hub.run(*%w[ip link add bridge up type bridge forward_delay 0])
      machines = addresses.map do |name, address|
        Machine.new(name, hosts: names).tap { |machine| machine.connect(@hub, "#{address}/24") }
      end
      @servers, @hosts = machines.partition { |machine| machine.name.start_with?("server") }
    end

    # Takes a server off the network, with its clients unnoticed, as when its machine fails. The virtual address has no
    # machine then.
    # @param server [Machine]
    def fence(server)
      server.cut_off(:drop_packets)
      server.run(*%W[ip address delete #{VIRTUAL} dev eth0])
    end

    # Gives the virtual address to a server, which announces it.
    # @param server [Machine]
    def lead_to(server)
      server.run(*%W[ip address add #{VIRTUAL} dev eth0])
      server.announce
    end

    def stop = [*@hosts, *@servers, *@hub].each(&:stop)

    private

    # @return [Hash{String => String}] addresses by the machine's name
    def numbered(kind, count, first)
      Array.new(count) { |number| ["#{kind}-#{number + 1}", "#{PREFIX}.#{first + number}"] }.to_h
    end

    def lines(addresses)
      ["127.0.0.1 localhost\n", "#{VIRTUAL.delete_suffix('/24')} #{SERVICE}\n"] +
        addresses.map { |name, address| "#{address} #{name}.#{DOMAIN} #{name}\n" }
    end
  end
end
