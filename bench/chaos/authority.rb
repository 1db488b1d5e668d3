# frozen_string_literal: true

require "fileutils"
require "openssl"

module Chaos
  # A private certificate authority. Certificates and keys are PEM files in a directory.
  class Authority
    DAY = 86_400
    private_constant :DAY

    # @param directory [String]
    # @param name [String] its common name; also that of its file
    def initialize(directory, name = "authority")
      @directory = directory
      @name = name
      @key = OpenSSL::PKey::EC.generate("prime256v1")
      @certificate = certificate(name, @key)
      add(@certificate, "basicConstraints" => "CA:TRUE", "keyUsage" => "keyCertSign,cRLSign")
      sign(@certificate, @certificate)
      File.write(path, @certificate.to_pem)
    end

    # @return [String] its certificate, for `sslrootcert` and `ssl_ca_file`
    def path = "#{@directory}/#{@name}.crt"

    # @param name [String] the common name: of a client, its database role
    # @param names [Array<String>] DNS names of a server
    # @return [Array(String, String)] paths of the certificate and of its key, which only its owner can read
    def issue(name, names: [])
      key = OpenSSL::PKey::EC.generate("prime256v1")
      issued = certificate(name, key)
      alternatives = [name, *names].uniq.map { |each| "DNS:#{each}" }.join(",")
      add(issued, "basicConstraints" => "CA:FALSE", "subjectAltName" => alternatives,
                  "extendedKeyUsage" => "serverAuth,clientAuth")
      sign(issued, @certificate)
      files = %w[crt key].map { |kind| "#{@directory}/#{name}.#{kind}" }
      File.write(files.first, issued.to_pem)
      File.write(files.last, key.to_pem, perm: 0o600)
      files
    end

    private

    def certificate(name, key)
      OpenSSL::X509::Certificate.new.tap do |certificate|
        certificate.version = 2 # X.509 v3
        certificate.serial = OpenSSL::BN.rand(64)
        certificate.subject = OpenSSL::X509::Name.new([["CN", name]])
        certificate.public_key = key
        certificate.not_before = Time.now - DAY
        certificate.not_after = Time.now + DAY
      end
    end

    def add(certificate, extensions)
      factory = OpenSSL::X509::ExtensionFactory.new(@certificate || certificate, certificate)
      extensions.each { |name, value| certificate.add_extension(factory.create_extension(name, value, true)) }
    end

    def sign(certificate, issuer)
      certificate.issuer = issuer.subject
      certificate.sign(@key, OpenSSL::Digest.new("SHA256"))
    end
  end
end
